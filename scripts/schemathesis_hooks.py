"""Hooks of scripts/schemathesis: lets half of the generated requests be about what is really there, so that more than 404 is seen."""

import os
import random

import schemathesis

THERE = {"user": os.environ.get("USER_ID"), "room": os.environ.get("ROOM_ID"), "seq": "2", "name": "other"}


@schemathesis.hook
def map_path_parameters(ctx, path_parameters):
    for name, value in THERE.items():
        if path_parameters and name in path_parameters and value and random.random() < 0.5:
            path_parameters[name] = value
    return path_parameters
