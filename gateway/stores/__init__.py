"""Stores of readings. In: line protocol from the journal. Out: history, latest values, exports. The contract, its
implementations InfluxDB and SQLite, and the drain that fills them.
"""
