"""Topic rules, compiled once. In: a record as a payload format decoded it. Out: the values of a reading, or every
reason why not.
"""
