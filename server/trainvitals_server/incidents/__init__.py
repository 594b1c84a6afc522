"""What happened to a run, joined into causal chains, and the one sentence that says how it is. Pure."""

from trainvitals_server.incidents.building import build
from trainvitals_server.incidents.incident import Incident, Link
from trainvitals_server.incidents.ranks import build_ranks
from trainvitals_server.incidents.verdicts import Verdict, verdict

__all__ = ["Incident", "Link", "Verdict", "build", "build_ranks", "verdict"]
