"""Runs in a container of the stack: plays the loop on a shortened year, then examines the stores and prints what it found as JSON."""

import json
import sys

from mlops_lab.bootstrap import Lab
from mlops_lab.demo.evidence import examine
from mlops_lab.demo.stores import Stores
from mlops_lab.demo.story import Plan, Story, Teller
from mlops_lab.demo.summary import summarise
from mlops_lab.monitoring.window import Window


def say(text: object) -> None:
    print(text, file=sys.stderr, flush=True)


PLAN = Plan(
    history=(Window.of_week("2013-W04"), Window.of_week("2013-W13")),
    poisoned=Window.of_week("2013-W06"),
    last=Window.of_week("2013-W19"),
    drill_before=Window.of_week("2013-W19"),
    faults=(("concept-shift", Window.of_week("2013-W15")),),
)
Story(Lab.of_environment(), Teller(act=say, say=say, progress=lambda progress: None, wait=lambda: None), PLAN).run()
stores = Stores(Lab.of_environment())
acts = {act.id: {"broken": act.broken, "claims": len(act.claims)} for act in examine(stores)}
summary = summarise(stores)
wanted = ("failed_requests", "predictions", "label_coverage", "decay_to_better_model_s", "audit_entries", "assignments")
policies = {
    "decided": sorted({decision.evidence["policy"] for decision in stores.decisions}),
    "approved": sorted({fact.body["policy_sha256"] for fact in stores.facts_of("approval") if "policy_sha256" in fact.body}),
}
print(json.dumps({"acts": acts, "policies": policies, **{name: summary[name] for name in wanted}}, default=str))
