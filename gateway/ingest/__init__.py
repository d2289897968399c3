"""From the broker to the journal. In: batches of MQTT messages. Out: readings, rejections and counts, on disk before
the messages are acknowledged.
"""
