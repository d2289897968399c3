"""Listeners: what happens with readings and rejections beside storing them. In: what came of a batch. Out: live
events, MQTT messages, counts.
"""
