"""Listeners: everything that happens with readings and rejections beside storing them. In: the outcome of a batch. Out:
live events, MQTT messages, counts.
"""
