"""How an application uses Spillway with nats-py alone: it publishes and waits, reads a result that is there already, and
collects results with a durable consumer. It needs a running pipeline with the task analyze:

    pip install nats-py
    python3 recipe.py nats://127.0.0.1:4222

It prints what it did, and exits with 1 when anything was not as promised.

Not run by .ci/run where nats-py is not installed: Debian has no package of it, and the checks install from Debian, npm and
Go's module proxy alone. It was run by hand with nats-py 2.15.0.
"""

import asyncio
import json
import sys
import uuid

import nats
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

REQUESTS = "llm.request.analyze"
RESULTS = "llm.result.analyze."
STREAM = "LLM_RESULTS"
SERVERS = sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222"


async def publish(nc, request_id, text):
    """Returns once JetStream has acknowledged the request: from then on it ends in one result. The id makes it safe to
    publish again after a doubt."""
    body = json.dumps({"id": request_id, "input": {"text": text}}).encode()
    await nc.jetstream().publish(REQUESTS, body, timeout=10, headers={"Nats-Msg-Id": request_id})


def read(data, request_id):
    r = json.loads(data)
    if (r["id"], r["run"]) != (request_id, 1):
        raise ValueError(f"got run {r['run']} of {r['id']}, not run 1 of {request_id}")
    if r.get("error"):
        raise ValueError(f"{r['id']} {r['status']}: {r['error']['code']}: {r['error']['message']}")
    if r["status"] not in ("succeeded", "degraded") or r.get("output") is None:
        raise ValueError(f"{r['id']} ended as {r['status']}, without an output")
    return r


async def publish_and_wait(nc):
    """For a caller that needs the answer now. It subscribes before it publishes, so that the result cannot come too
    early to be heard."""
    request_id = uuid.uuid4().hex
    sub = await nc.subscribe(RESULTS + request_id)
    await publish(nc, request_id, "The new release is fast, but the docs lag behind.")
    r = read((await sub.next_msg(timeout=60)).data, request_id)
    await sub.unsubscribe()
    print(f"published {request_id} and got {r['status']} from {r['model']}: {json.dumps(r['output'])}")


async def look_later(nc):
    """For a caller that was away: the result is kept, and asked for by its subject. A caller that does not know whether
    it is there yet subscribes first, then looks, then waits."""
    request_id = uuid.uuid4().hex
    await publish(nc, request_id, "Where is my order?")
    for _ in range(1200):
        try:
            m = await nc.jetstream().get_last_msg(STREAM, RESULTS + request_id)
        except NotFoundError:
            await asyncio.sleep(0.05)
            continue
        r = read(m.data, request_id)
        print(f"found the result of {request_id}: {r['status']}")
        return
    raise TimeoutError(f"no result of {request_id} is kept")


async def collect_all_the_time(nc):
    """For a service that handles every result once, also those that came while it was down: the durable consumer
    remembers at the server what was acknowledged."""
    name = "recipe-" + uuid.uuid4().hex
    config = ConsumerConfig(
        durable_name=name, filter_subject=RESULTS + "*", deliver_policy=DeliverPolicy.NEW, ack_policy=AckPolicy.EXPLICIT
    )
    await nc.jetstream().add_consumer(STREAM, config)
    try:
        for request_id in (name + "-1", name + "-2"):
            await publish(nc, request_id, "Is anybody there?")
            await collect_one(name, request_id)
    finally:
        await nc.jetstream().delete_consumer(STREAM, name)  # an application keeps its own


async def collect_one(name, request_id):
    """One life of the service: it connects, handles results until the one of the id, and goes."""
    nc = await nats.connect(SERVERS)
    try:
        sub = await nc.jetstream().pull_subscribe_bind(name, stream=STREAM)
        while True:
            for m in await sub.fetch(1, timeout=30):
                mine = m.subject == RESULTS + request_id
                if mine:
                    read(m.data, request_id)
                # Acknowledged last: a service that dies before it sees this result again.
                await m.ack_sync()
                if mine:
                    print(f"collected {request_id} with the durable consumer")
                    return
    finally:
        await nc.close()


async def main():
    nc = await nats.connect(SERVERS, name="python recipe")
    try:
        await publish_and_wait(nc)
        await look_later(nc)
        await collect_all_the_time(nc)
    finally:
        await nc.close()


if __name__ == "__main__":
    asyncio.run(main())
