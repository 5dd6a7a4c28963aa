"""A nemesis: a broker, a database path and a conductor that do their worst to `sensorsync subscribe`, and judge each PUBACK.

It knows the product only from outside: the command, its settings, its log, the table and the file of the dead-letter box.

    python -m tests.acceptance.nemesis --seed 7 --seconds 20
"""
