from ltg_core import workflows
import numpy as np
def test_it(fitted, classifier):
    print(workflows.check_classifier(fitted, classifier, "test"))
    g = workflows.active_generator(fitted)
    plan = workflows.plan_classes(classifier, g, per_class=4)
    import time; t=time.time()
    from ltg_core.guidance.settings import PRESETS
    import dataclasses
    gd = dataclasses.replace(PRESETS["explore"], steps=4, draft_steps=2, candidates=3)
    run = workflows.generate(fitted, classifier, g, **dataclasses.asdict(plan), guidance=gd, preset="explore")
    print(run.result, time.time()-t)
    for t in workflows.triplets(fitted, run.id)[:2]: print(t)
    for s in fitted.samples(fitted.query())[-1:]: print(s)
