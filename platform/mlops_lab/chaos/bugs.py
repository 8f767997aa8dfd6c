"""What these faults have found, for `platform/docs/faults.md`: one line each, with what was done about it."""

BUGS: tuple[str, ...] = (
    "F16: at SIGTERM the server closed idle keep-alive connections at once, and with them requests that were on their way: 76 cut in 10 "
    "restarts. Now they stay for `LAB_SERVICE__DRAIN_S`, and the next answer says `connection: close`.",
    "F1: a replica asked a ledger that was down twice a second. Now once in ten seconds.",
    "F5: a refused package was only told on stderr. Now each leaves an incident in the prediction log, which becomes an audit entry.",
    "Bad input: garbage behind a request ended the writing before its reply, whose failure then cost every other reply of the same turn: "
    "ordinary callers waited for ever. Now it is refused behind the reply, and one that cannot be sent costs nobody else theirs.",
    "E3: a store that came back empty while rows waited for it got these rows and the progress behind them, so the processor found its own "
    "progress there and never wrote the others: with a slow stream, features were missing for good. Now it looks before each write.",
    "F15: a merge had left a second predictor without the fault on purpose, so that a drill of a canary with errors saw none.",
    "E1: the spool of a publisher left out ids that it had. A broker was killed when it had taken a batch with one event twice and not "
    "said so: what was sent again lacked the second sending, and the first came to lie behind it. Now all is sent again.",
)
