// How an application uses Spillway with the NATS client alone: it publishes and waits, reads a result that is there
// already, and collects results with a durable consumer. It needs a running pipeline with the task analyze:
//
//   npm ci && node recipe.mjs nats://127.0.0.1:4222
//
// It prints what it did, and exits with 1 when anything was not as promised. TypeScript takes it as it is: the types
// come with the packages.
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, nuid } from "@nats-io/transport-node";

const servers = process.argv[2] ?? "nats://127.0.0.1:4222";
const requests = "llm.request.analyze";
const results = "llm.result.analyze.";
const stream = "LLM_RESULTS";

// Publishing returns once JetStream has acknowledged the request: from then on it ends in one result. The id makes it
// safe to publish again after a doubt.
async function publish(nc, id, text) {
  await jetstream(nc).publish(requests, JSON.stringify({ id, input: { text } }), { msgID: id });
}

function read(m, id) {
  const r = m.json();
  if (r.id !== id || r.run !== 1) throw new Error(`got run ${r.run} of ${r.id}, not run 1 of ${id}`);
  if (r.error) throw new Error(`${r.id} ${r.status}: ${r.error.code}: ${r.error.message}`);
  if (!["succeeded", "degraded"].includes(r.status) || r.output == null) throw new Error(`${r.id} ended as ${r.status}, without an output`);
  return r;
}

// For a caller that needs the answer now. It subscribes before it publishes, so that the result cannot come too early
// to be heard.
async function publishAndWait(nc) {
  const id = nuid.next();
  const answer = new Promise((resolve, reject) => {
    nc.subscribe(results + id, { max: 1, timeout: 60_000, callback: (err, m) => (err ? reject(err) : resolve(m)) });
  });
  await publish(nc, id, "The new release is fast, but the docs lag behind.");
  const r = read(await answer, id);
  console.log(`published ${id} and got ${r.status} from ${r.model}: ${JSON.stringify(r.output)}`);
}

// For a caller that was away: the result is kept, and asked for by its subject. A caller that does not know whether it
// is there yet subscribes first, then looks, then waits.
async function lookLater(nc) {
  const id = nuid.next();
  await publish(nc, id, "Where is my order?");
  const manager = await jetstreamManager(nc);
  for (const end = Date.now() + 60_000; Date.now() < end; await new Promise((next) => setTimeout(next, 50))) {
    const m = await manager.streams.getMessage(stream, { last_by_subj: results + id });
    if (m === null) continue;
    const r = read(m, id);
    console.log(`found the result of ${id}, kept since ${m.time.toISOString()}: ${r.status}`);
    return;
  }
  throw new Error(`no result of ${id} is kept`);
}

// For a service that handles every result once, also those that came while it was down: the durable consumer remembers
// at the server what was acknowledged.
async function collectAllTheTime(nc) {
  const manager = await jetstreamManager(nc);
  const name = `recipe-${nuid.next()}`;
  await manager.consumers.add(stream, {
    durable_name: name, filter_subject: `${results}*`, deliver_policy: DeliverPolicy.New, ack_policy: AckPolicy.Explicit,
  });
  try {
    for (const id of [`${name}-1`, `${name}-2`]) {
      await publish(nc, id, "Is anybody there?");
      await collectOne(name, id);
    }
  } finally {
    await manager.consumers.delete(stream, name); // an application keeps its own
  }
}

// One life of the service: it connects, handles results until the one of id, and goes.
async function collectOne(name, id) {
  const nc = await connect({ servers });
  try {
    const consumer = await jetstream(nc).consumers.get(stream, name);
    for (;;) {
      const m = await consumer.next({ expires: 30_000 });
      if (m === null) throw new Error(`no result of ${id} was delivered`);
      const mine = m.subject === results + id;
      if (mine) read(m, id);
      // Acknowledged last: a service that dies before it sees this result again.
      if (!(await m.ackAck())) throw new Error(`${m.subject} could not be acknowledged`);
      if (!mine) continue;
      console.log(`collected ${id} with the durable consumer`);
      return;
    }
  } finally {
    await nc.close();
  }
}

const nc = await connect({ servers, name: "typescript recipe" });
try {
  await publishAndWait(nc);
  await lookLater(nc);
  await collectAllTheTime(nc);
} finally {
  await nc.close();
}
