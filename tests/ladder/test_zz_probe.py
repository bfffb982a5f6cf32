import time, json
def test_probe(climbed, cli):
    print(json.dumps(climbed.ladder(), indent=1)[:6000])
    print((climbed.runs()[-1]/"run.log").read_text())
    print(sorted(p.name for p in climbed.runs()[-1].iterdir()))
    t=time.time(); r = cli("climb", climbed.config, "--json"); print(time.time()-t, r.code, r.err)
    assert 0
def test_probe_all(all_rungs_once):
    print((all_rungs_once.runs()[-1]/"run.log").read_text())
    for r in all_rungs_once.ladder()["rungs"]: print(json.dumps(r, indent=1)[:1800])
    assert 0
