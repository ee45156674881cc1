"""How long things stay: what is too old goes, and where space is short, what is given up for it.

plan.py         what is to be removed, in which order: pure
removal.py      removal from one partition       packs.py        what that means for the packs of an image store
sweep.py        one sweep over everything        sweeper.py      the thread that sweeps
bounds.py       when space is short              survey.py       what is stored of each class, for people
"""
