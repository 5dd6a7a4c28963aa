"""Subscribed links and the sessions that belong to them."""
