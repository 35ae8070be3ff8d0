"""Two nodes share a Redis: what one has stored is a hit on the other, and whatever becomes of Redis, clients never notice.

    second.py RINGWAY REDIS_SERVER [SCENARIO...]

The backend counts its calls and numbers its answers. Standard library only.
"""

import concurrent.futures
import itertools
import pathlib
import signal
import sys
import tempfile

import house
from house import ask, check
from levels import Node, PASSWORD, Redis, certified, numbered, pair, stored, under_load, wait


def what_one_node_stored_the_other_serves():
    backend, redis, a, b = pair()
    for place in range(8):
        what, stream = f"shared {place} " + "word " * (place * 200), place % 2 == 0
        _, said, _ = stored(redis, a, what, stream=stream)
        calls = backend.calls
        # First the other form, of which the leader's own is converted.
        for asked in (not stream, stream):
            cache, other, told = b.chat(what, stream=asked)
            check(f"question {place} is a hit with the same words", (cache, other) == ("HIT", said), (cache, told))
        check("no call was made", backend.calls == calls)
    _, _, told = b.chat("level", stream=False)
    stored(redis, a, "from redis")
    told = [b.chat("from redis")[2] for _ in range(2)]
    check("the level is told", "detail=redis" in told[0] and "detail" not in told[1], told)
    prompts = [key for key in redis.keys() if "shared" in key or "word" in key]
    check("no key has a prompt in it", not prompts and all(key.startswith("ringway:1:") for key in redis.keys()))
    a.stop(), b.stop()


def a_crowd_makes_one_look_up():
    backend, redis, a, b = pair()
    _, said, _ = stored(redis, a, "crowded")
    before, calls = b.lookups("hit"), backend.calls
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda place: b.chat("crowded", stream=place % 2 == 0), range(24)))
    # Those who join the leader while it asks are told that they did: MISS, collapsed.
    check("everybody gets it", all(answer[1] == said for answer in answers), answers)
    check("mostly as a hit", any(answer[0] == "HIT" for answer in answers), answers)
    check("no call, few look-ups", backend.calls == calls and b.lookups("hit") - before <= 2, b.lookups("hit"))
    a.stop(), b.stop()


def who_wants_what_is_cached_alone_gets_it_from_redis():
    backend, redis, a, b = pair()
    only = {"cache-control": "only-if-cached"}
    _, said, _ = stored(redis, a, "cached alone")
    calls = backend.calls
    body = {"model": "m", "messages": [{"role": "user", "content": "never asked"}]}
    status, _, _ = ask(b.port, "POST", "/v1/chat/completions", body, headers=only)
    check("what nobody has is a 504", status == 504, status)
    cache, other, told = b.chat("cached alone", headers=only)
    check("what the other node has is a hit", (cache, other) == ("HIT", said) and "detail=redis" in told, told)
    check("also from memory", b.chat("cached alone", headers=only)[0] == "HIT")
    check("no call was made", backend.calls == calls)
    a.stop(), b.stop()


def a_purge_reaches_both_nodes_and_redis():
    backend, redis, a, b = pair()
    for scope, model in (({"all": True}, "m"), ({"model": "n"}, "n")):
        _, old, _ = stored(redis, a, f"purged {scope}", model=model)
        check("both have it", b.chat(f"purged {scope}", model=model)[1] == old)
        beside = f"of the other model, beside {scope}"
        _, other, _ = stored(redis, a, beside)
        status, _, text = a.purge(scope)
        check("it is purged", status == 200, text)
        check("not served here", a.chat(f"purged {scope}", model=model)[1] != old)
        wait("nor there", lambda: b.chat(f"purged {scope}", model=model)[1] != old)
        if model == "n":
            check("another model's answers stay", b.chat(beside)[:2] == ("HIT", other))
    # A node that is new, or was away, does not serve what was purged before.
    _, old, _ = stored(redis, a, "purged while away")
    check("it is purged", a.purge({"model": "m"})[0] == 200)
    c = Node(backend, redis.url())
    c.reaches_redis(backend)
    check("a new node does not have it", c.chat("purged while away")[1] != old)
    a.stop(), b.stop(), c.stop()


def a_node_that_missed_a_purge_hears_of_it():
    backend, redis, a, b = pair()
    _, old, _ = stored(redis, a, "missed")
    check("both have it", b.chat("missed")[1] == old)
    # Nobody hears of what happens while Redis is gone, and Redis forgets everything.
    redis.kill()
    status, _, text = a.purge({"all": True})
    check("that Redis was not told is said", status == 503 and "redis_not_told" in text, (status, text))
    check("it is purged here", a.chat("missed")[1] != old)
    redis.start()
    wait("the other node hears of it", lambda: b.chat("missed")[1] != old)
    a.reaches_redis(backend), b.reaches_redis(backend)
    stored(redis, a, "afterwards")
    check("both share again", b.chat("afterwards")[0] == "HIT")
    a.stop(), b.stop()


def a_purge_that_redis_was_not_told_of_outlives_its_node():
    backend, redis = numbered(), Redis()
    state = pathlib.Path(tempfile.mkdtemp(prefix="ringway-state-"))
    house.directories.append(state)
    node = Node(backend, redis.url(), server=f'state_dir = "{state}"', cache="snapshot = true")
    node.reaches_redis(backend)
    _, old, _ = stored(redis, node, "untold")
    redis.child.send_signal(signal.SIGSTOP)
    status, _, text = node.purge({"all": True})
    check("that Redis was not told is said", status == 503 and "redis_not_told" in text, (status, text))
    node.kill()
    node.start()
    check("nothing of Redis serves meanwhile", node.chat("asked meanwhile")[0] == "MISS")
    redis.child.send_signal(signal.SIGCONT)
    node.reaches_redis(backend)
    cache, said, told = node.chat("untold")
    check("what was purged stays away", (cache, said != old) == ("MISS", True), (cache, told))
    node.stop()


def a_redis_that_lost_its_purges_is_told_them_again():
    backend, redis, a, b = pair()
    old = {what: stored(redis, a, what)[1] for what in ("heard of", "lost here", "lost there")}
    check("it is purged", a.purge({"all": True})[0] == 200)
    wait("the other node hears of it", lambda: b.chat("heard of")[1] != old["heard of"])
    number = redis.command("HGET", "ringway:1:purges", "all")
    # The answers stay.
    redis.command("DEL", "ringway:1:purges")
    check("what was purged is not served here", a.chat("lost here")[1] != old["lost here"])
    check("nor there", b.chat("lost there")[1] != old["lost there"])
    wait("Redis is told again", lambda: redis.command("HGET", "ringway:1:purges", "all") == number)
    a.reaches_redis(backend), b.reaches_redis(backend)
    stored(redis, a, "afterwards")
    check("both share again", b.chat("afterwards")[0] == "HIT")
    a.stop(), b.stop()


def whatever_becomes_of_redis_clients_do_not_notice():
    backend, redis, a, b = pair()
    times = {}
    times["well"] = under_load(a, lambda: None)
    times["paused"] = under_load(a, lambda: redis.command("CLIENT", "PAUSE", "1500", "ALL"))
    a.reaches_redis(backend)
    times["flushed"] = under_load(a, lambda: [redis.command("FLUSHALL") for _ in range(5)])
    times["stopped"] = under_load(a, lambda: redis.child.send_signal(signal.SIGSTOP))
    redis.child.send_signal(signal.SIGCONT)
    seen = {result: a.lookups(result) for result in ("miss", "timeout", "error", "skipped")}
    check("look-ups were too late, then skipped", seen["timeout"] > 0 and seen["skipped"] > 0, seen)
    a.reaches_redis(backend)
    times["killed"] = under_load(a, redis.kill)
    times["back"] = under_load(a, redis.start)
    a.reaches_redis(backend)
    for what, all_times in times.items():
        middle, worst = all_times[len(all_times) // 2], all_times[-1]
        print(f"  {what}: {len(all_times)} answers, median {middle * 1000:.1f} ms, worst {worst * 1000:.1f} ms")
    a.stop(), b.stop()


def what_is_damaged_foreign_or_refused_is_a_miss():
    backend, redis, a, b = pair()
    for garbage in ("x", "", "RW", "a" * 100_000):
        stored(redis, a, f"damaged {garbage[:3]}")
        for key in redis.keys():
            if key != "ringway:1:purges":
                redis.command("SET", key, garbage)
        cache, said, _ = b.chat(f"damaged {garbage[:3]}")
        check("a miss, and a right answer", cache == "MISS" and said.startswith("damaged"), (cache, said))
    check("it is counted", b.lookups("damaged") > 0)
    stored(redis, a, "of another type")
    for key in redis.keys():
        redis.command("DEL", key)
        redis.command("LPUSH", key, "a")  # an error for whoever reads it
    check("an error is a miss", b.chat("of another type")[0] == "MISS" and b.lookups("error") > 0)
    a.stop(), b.stop()


def a_wrong_password_or_another_server_is_no_redis():
    backend, redis = numbered(), Redis()
    wrong = Node(backend, redis.url(password="wrong"))
    http = Node(backend, f"redis://127.0.0.1:{backend.url.rsplit(':', 1)[1]}")
    nobody = Node(backend, f"redis://127.0.0.1:{house.free_port()}")
    for node in (wrong, http, nobody):
        for place in range(4):
            check("a right answer", node.chat(f"no redis {place}")[1].startswith(f"no redis {place}"))
        check("it is a hit in memory", node.chat("no redis 1")[0] == "HIT")
        wait("why is told", lambda: "redis: " in node.words())
        node.stop()
    check("the password is not", PASSWORD not in wrong.words() and "wrong@" not in wrong.words())
    check("what Redis says is told", "WRONGPASS" in wrong.words(), wrong.words())


def over_tls():
    certificate, files = certified()
    backend, redis = numbered(), Redis(tls=files)
    url, trusted = redis.url(scheme="rediss"), f'tls_ca = "{certificate}"'
    a, b = [Node(backend, url, more=trusted) for _ in range(2)]
    a.reaches_redis(backend), b.reaches_redis(backend)
    numbers = itertools.count()

    def shared():
        what = f"secured {next(numbers)}"
        return a.chat(what)[1] == b.chat(what)[1]

    wait("what one stored the other serves", shared)
    check("a purge is told", a.purge({"all": True})[0] == 200)
    untrusting = Node(backend, url)
    check("an untrusted certificate is refused", untrusting.chat("not shared")[0] == "MISS")
    wait("the log says why", lambda: "no secure connection" in untrusting.words())
    a.stop(), b.stop(), untrusting.stop()


house.run(
    [
        what_one_node_stored_the_other_serves,
        a_crowd_makes_one_look_up,
        who_wants_what_is_cached_alone_gets_it_from_redis,
        a_purge_reaches_both_nodes_and_redis,
        a_node_that_missed_a_purge_hears_of_it,
        a_purge_that_redis_was_not_told_of_outlives_its_node,
        a_redis_that_lost_its_purges_is_told_them_again,
        whatever_becomes_of_redis_clients_do_not_notice,
        what_is_damaged_foreign_or_refused_is_a_miss,
        a_wrong_password_or_another_server_is_no_redis,
        over_tls,
    ],
    sys.argv[3:],
)
house.verdict()
