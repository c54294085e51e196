"""Hooks of scripts/schemathesis, for what no schema can say.

Half of the requests that should succeed are about what is really there, so that more than 404 is seen. None of them is about a page or a
state that was never given out: a cursor and a tag are the server's own words, and what it answers to others of them is tested elsewhere.
"""

import os
import random

import schemathesis
from schemathesis import GenerationMode
from schemathesis.generation.meta import TestPhase

THERE = {"user": os.environ.get("USER_ID"), "room": os.environ.get("ROOM_ID"), "seq": "2", "code": os.environ.get("CODE"), "name": "other"}
GIVEN_OUT = {"cursor", "If-Match"}
# None: another one every time.
random.seed(os.environ.get("SEED") or None)


@schemathesis.hook
def before_call(ctx, case, kwargs):
    if case.meta is None or case.meta.generation.mode != GenerationMode.POSITIVE:
        return
    # What was made a step before is what the next step is about.
    replaced = [] if case.meta.phase.name == TestPhase.STATEFUL else list(case.path_parameters or {})
    for name in replaced:
        if THERE.get(name) and random.random() < 0.5:
            case.path_parameters[name] = THERE[name]
    for values in (case.query, case.headers):
        for name in GIVEN_OUT & set(values or {}):
            del values[name]
