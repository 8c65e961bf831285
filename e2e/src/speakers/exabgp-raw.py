# ExaBGP with one thing added: a route whose attribute 255 holds the body of an UPDATE is sent as that very UPDATE.
import sys

from exabgp.bgp.message.update import Update

RAW = 255
plain = Update.messages


def messages(self, negotiated, include_withdraw=True):
    raw = self.attributes.get(RAW)
    if raw is None:
        yield from plain(self, negotiated, include_withdraw)
    else:
        yield self._message(raw.data)


Update.messages = messages

from exabgp.application import run_exabgp  # noqa: E402  (after the change)

sys.exit(run_exabgp())
