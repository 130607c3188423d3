"""Which processes the local stack runs."""

from deploy.local.services import MAIL, PROCESSES, processes_for


def test_mails_are_sent_where_a_server_is_named() -> None:
    assert processes_for({}) == processes_for({"SMTP_URL": ""}) == PROCESSES
    assert processes_for({"SMTP_URL": "smtp://127.0.0.1:1025"}) == (*PROCESSES, MAIL)
