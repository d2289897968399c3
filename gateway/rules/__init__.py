"""Topic rules, compiled once. In: a payload. Out: the values of its readings, or every reason why not."""
