"""What goes out to people: notable changes become messages in an outbox, in the transaction that made them; a sender
takes them from there to the operator's targets, at least once, each under an id that stays the same."""
