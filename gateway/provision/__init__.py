"""Wanted state from config/, actual state read from the servers, a pure diff, steps.

Only this package holds admin credentials; the gateway itself never imports it.
"""
