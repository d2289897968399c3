"""Provisioning: the wanted state from config/, the actual state from the servers, a pure diff, steps.

Only this package holds admin credentials; the gateway itself never imports it.
"""
