import assert from 'node:assert/strict';
import { systemClock } from '../../runtime/clock.ts';
import { GARBAGE, openAndClose, sendGarbage } from '../fixtures/garbage.ts';
import { openFiles, residentBytes } from '../fixtures/process-facts.ts';
import { readMetric, untilRestarted } from '../fixtures/restarts.ts';
import { listSessions } from '../fixtures/shop-catalog.ts';
import { readingWorkload, type Workload } from '../fixtures/workload.ts';
import { type RunningUp, startUp } from '../fixtures/writ-up.ts';

const never = new AbortController().signal;
const TIMER_MS = 10_000;
/** For the machine to get round to it. */
const SLACK_MS = 3000;
const WARM_UP = 10;
const IDLE = 50;
const OPENED_AND_CLOSED = 300;
const MOST_GROWTH_BYTES = 50 * 1024 * 1024;
const SETTLE_MS = 5000;
const PROCESSES = ['server', 'agent', 'gateway'] as const;
/** Where each connection counts as one; of health ports only what is no HTTP counts. */
const LISTENERS = { server: ['tls', 'admin'], agent: ['workload'], gateway: ['backend'] } as const;
const SILENCE = { name: 'silence', chunks: [] };

describe('garbage on every port', () => {
  let up: RunningUp;
  let workload: Workload;
  let calm: Facts;
  let settled: Facts;
  /** What each connection came to, and how often the good client was served meanwhile. */
  let outcomes: readonly PromiseSettledResult<number>[];
  let served = 0;
  const sentToEach = GARBAGE.length + IDLE + OPENED_AND_CLOSED;

  before(async function () {
    this.timeout(120_000);
    up = await startUp();
    workload = await readingWorkload(up, 'good');
    // The first sessions fill the gateway's caches.
    for (let at = 0; at < WARM_UP; at += 1) await serveGoodClient(up, workload);
    calm = await factsOf(up);
    const end = new AbortController();
    const good = keepServing(end.signal);
    outcomes = await Promise.allSettled(targetsOf(up).flatMap(assaults));
    for (const target of targetsOf(up)) {
      await Promise.all(Array.from({ length: OPENED_AND_CLOSED }, () => openAndClose(target)));
    }
    end.abort();
    await good;
    settled = await untilSettled(up, calm);
  });
  after(async function () {
    this.timeout(30_000);
    await workload[Symbol.asyncDispose]();
    await up[Symbol.asyncDispose]();
  });

  async function keepServing(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await serveGoodClient(up, workload);
      served += 1;
      await systemClock.wait(300, signal).catch(() => undefined);
    }
  }

  it('is closed within the timer of its port', () => {
    const late = outcomes.flatMap((outcome) =>
      outcome.status === 'rejected' ? [String(outcome.reason)] : [],
    );
    assert.deepEqual(late, []);
    assert.equal(outcomes.length, targetsOf(up).length * (GARBAGE.length + IDLE));
  });

  it('costs no process its life, 50 MB or a descriptor', () => {
    for (const name of PROCESSES) {
      const [was, is] = [calm[name], settled[name]];
      assert.equal(is.pid, was.pid, `${name} is the same process`);
      const growth = is.bytes - was.bytes;
      assert.ok(growth <= MOST_GROWTH_BYTES, `${name} grew by ${Math.round(growth / 1e6)} MB`);
      assert.ok(is.files <= was.files, `${name} holds ${is.files} files, ${was.files} before`);
    }
  });

  it('keeps no good client from being served, meanwhile or after', async () => {
    assert.ok(served >= 5, `${served} times`);
    await serveGoodClient(up, workload);
  });

  it('is counted, each connection once', async () => {
    for (const name of PROCESSES) {
      for (const listener of LISTENERS[name]) {
        const counted = await refusedAt(up, name, listener);
        assert.equal(counted, sentToEach, `${name} at ${listener}`);
      }
      assert.ok((await refusedAt(up, name, 'health')) > 0, `${name} at health`);
    }
  });

  it('is audited by address, port and reason, at most once a minute, with a count', async () => {
    // What is counted and not yet written is written when a process stops.
    for (const name of ['gateway', 'server'] as const) {
      process.kill(up.json.pids[name], 'SIGTERM');
      await untilRestarted(up, name, settled[name].pid);
    }
    const [server, gateway] = [up.json.server.address, up.json.gateway.postgres].map(portOf);
    const end = systemClock.monotonicMs() + 10_000;
    let counted = await refusals(up);
    while (counted.get(gateway ?? '')?.count !== sentToEach && systemClock.monotonicMs() < end) {
      await systemClock.wait(100, never);
      counted = await refusals(up);
    }
    for (const port of [gateway, server]) {
      const { count, keys } = counted.get(port ?? '') ?? { count: 0, keys: new Map() };
      assert.equal(count, sentToEach, `events of port ${port}`);
      // The first of a minute at once and the rest at its end, over the minute that this took.
      for (const [key, events] of keys) assert.ok(events <= 4, `${key}: ${events} events`);
    }
    const verified = await up.writ('audit', 'verify');
    assert.equal(verified.status, 0, verified.stderr);
  }).timeout(60_000);
});

interface ProcessFacts {
  readonly pid: number;
  readonly files: number;
  readonly bytes: number;
}

/** Of its `connections_refused_total`. */
function refusedAt(
  up: RunningUp,
  name: (typeof PROCESSES)[number],
  listener: string,
): Promise<number> {
  const series = `writ_${name}_connections_refused_total{listener="${listener}"}`;
  return readMetric(up.json[name].health, series);
}

type Facts = Readonly<Record<(typeof PROCESSES)[number], ProcessFacts>>;

function assaults(target: string): Promise<number>[] {
  const all = [...GARBAGE, ...Array.from({ length: IDLE }, () => SILENCE)];
  return all.map((garbage) => sendGarbage(target, garbage, TIMER_MS + SLACK_MS));
}

function targetsOf({ json }: RunningUp): string[] {
  const healths = PROCESSES.map((name) => json[name].health.replace('http://', ''));
  const sockets = [json.agent.workload_api.replace('unix://', ''), json.server.admin_socket];
  return [json.server.address, json.gateway.postgres, ...healths, ...sockets];
}

/** One round of everything that a good client does. */
async function serveGoodClient(up: RunningUp, workload: Workload): Promise<void> {
  const client = await workload.connect();
  const { rows } = await client.query('select id from orders order by id limit 1');
  await client.end();
  assert.deepEqual(rows, [{ id: 1 }]);
  await listSessions(up, true);
  const response = await fetch(`${up.json.gateway.health}/ready`);
  assert.equal(response.status, 200);
  await response.text();
}

async function factsOf(up: RunningUp): Promise<Facts> {
  const facts = PROCESSES.map(async (name): Promise<[string, ProcessFacts]> => {
    const pid = up.json.pids[name];
    // What the look itself leaves open is part of every count.
    await refusedAt(up, name, 'health');
    return [name, { pid, files: openFiles(pid), bytes: residentBytes(pid) }];
  });
  return Object.fromEntries(await Promise.all(facts)) as unknown as Facts;
}

/** Five seconds at most, for what a closed connection leaves to be collected. */
async function untilSettled(up: RunningUp, was: Facts): Promise<Facts> {
  const end = systemClock.monotonicMs() + SETTLE_MS;
  for (;;) {
    const is = await factsOf(up);
    if (PROCESSES.every((name) => is[name].files <= was[name].files)) return is;
    if (systemClock.monotonicMs() > end) return is;
    await systemClock.wait(100, never);
  }
}

function portOf(address: string): string {
  return address.split(':').at(-1) ?? '';
}

interface Refusals {
  count: number;
  /** Events by address and reason. */
  readonly keys: Map<string, number>;
}

/** Of the audit log, by port. */
async function refusals(up: RunningUp): Promise<ReadonlyMap<string, Refusals>> {
  const tail = await up.writ('audit', 'tail', '--last', '1000', '--json');
  const found = new Map<string, Refusals>();
  for (const line of tail.stdout.split('\n').filter((text) => text !== '')) {
    const event = JSON.parse(line) as AuditEvent;
    if (event.type !== 'connection.refused') continue;
    assert.equal(event.outcome, 'OUTCOME_DENIED');
    const { port = '', count } = event.attributes;
    const known = found.get(port) ?? { count: 0, keys: new Map() };
    const key = `${event.actor.address} ${event.reason}`;
    known.count += Number(count);
    known.keys.set(key, (known.keys.get(key) ?? 0) + 1);
    found.set(port, known);
  }
  return found;
}

interface AuditEvent {
  readonly type: string;
  readonly outcome: string;
  readonly actor: { readonly address: string };
  readonly reason: string;
  readonly attributes: Readonly<Record<string, string>>;
}
