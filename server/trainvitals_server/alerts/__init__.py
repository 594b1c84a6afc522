"""The life of an alert: what a rule found, kept until it has cleared. Pure: time is passed in."""

from trainvitals_server.alerts.alert import Alert, Status
from trainvitals_server.alerts.life import acknowledge, advance, supersede

__all__ = ["Alert", "Status", "acknowledge", "advance", "supersede"]
