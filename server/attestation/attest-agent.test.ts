import assert from 'node:assert/strict';
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import {
  type AttestAgentRequest,
  AttestAgentRequestSchema,
} from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { LockSchema, ResourceSchema } from '../../proto/gen/writ/resource/v1/resource_pb.ts';
import { createLogger } from '../../runtime/log.ts';
import { onEachStore } from '../../test/fixtures/each-store.ts';
import { anyCsr, RegistryWorld, TD } from '../../test/fixtures/registry-world.ts';
import type { AttestedNode, NodeAttestor } from '../plugins/node-attestor/node-attestor.ts';
import { findAgent } from './agent-records.ts';
import { NodeAttestation } from './attest-agent.ts';

type Step = NonNullable<
  Exclude<MessageInitShape<typeof AttestAgentRequestSchema>, AttestAgentRequest>['step']
>;

const ID = SpiffeId.parse(`spiffe://${TD}/spire/agent/quiz/a`);
const NODE: AttestedNode = { agentId: ID, selectors: ['room:1'], canReattest: true };
const FROM = { from: '127.0.0.1:1', signal: new AbortController().signal };

onEachStore('NodeAttestation', (fresh) => {
  let world: RegistryWorld;
  beforeEach(async () => {
    world = await RegistryWorld.open({ store: await fresh().open() });
  });
  afterEach(() => world[Symbol.asyncDispose]());

  const attestationBy = (attest: NodeAttestor['attest']) =>
    new NodeAttestation({
      ...world,
      log: createLogger({ process: 'server', level: 'silent' }),
      attestors: new Map([['quiz', { type: 'quiz', attest }]]),
      trustDomain: TD,
      ttlSeconds: 60,
    });
  /** Says hello with the evidence `payload`, then answers each challenge with itself reversed. */
  const talk = async (attestation: NodeAttestation, first: Step) => {
    const heard: string[] = [];
    let answer: (bytes: Uint8Array) => void = () => undefined;
    let answered = new Promise<Uint8Array>((resolve) => {
      answer = resolve;
    });
    async function* requests() {
      yield create(AttestAgentRequestSchema, { step: first });
      for (;;) {
        const value = await answered;
        answered = new Promise((resolve) => {
          answer = resolve;
        });
        yield create(AttestAgentRequestSchema, { step: { case: 'challengeResponse', value } });
      }
    }
    for await (const { step } of attestation.attest(requests(), FROM)) {
      heard.push(step?.case ?? '');
      if (step?.case === 'challenge') answer(Buffer.from(step.value ?? []).reverse());
    }
    return heard;
  };
  const hello = async (type = 'quiz', csr?: Uint8Array, payload = 'evidence'): Promise<Step> => ({
    case: 'params',
    value: {
      data: { type, payload: Buffer.from(payload) },
      params: { csr: csr ?? (await anyCsr()) },
    },
  });

  it('carries challenges and answers between attestor and agent, then admits the node', async () => {
    const attestation = attestationBy(async (evidence, exchange) => {
      assert.equal(Buffer.from(evidence).toString(), 'evidence');
      for (const word of ['abc', 'xyz']) {
        const answer = await exchange.challenge(Buffer.from(word));
        assert.equal(Buffer.from(answer).toString(), [...word].reverse().join(''));
      }
      return NODE;
    });
    const heard = await talk(attestation, await hello());
    assert.deepEqual(heard, ['challenge', 'challenge', 'result']);
    const record = await findAgent(world.store, ID);
    assert.deepEqual(
      [record?.attestationType, record?.selectors, record?.canReattest],
      ['quiz', [{ type: 'quiz', value: 'room:1' }], true],
    );
    const row = await world.store.get('select kind, agent_id, serial from ledger');
    assert.deepEqual(
      [row?.kind, row?.agent_id, row?.serial],
      ['agent', ID.toString(), record?.serial],
    );
  });

  const malformed: [string, () => Promise<Step>, string][] = [
    [
      'a first message that answers a challenge',
      async () => ({ case: 'challengeResponse', value: Buffer.of(1) }),
      'INVALID_ARGUMENT',
    ],
    ['no evidence', () => hello('quiz', undefined, ''), 'INVALID_ARGUMENT'],
    [
      'evidence of more than 64 KiB',
      () => hello('quiz', undefined, 'x'.repeat(65_537)),
      'INVALID_ARGUMENT',
    ],
    ['no type', () => hello(''), 'INVALID_ARGUMENT'],
    ['an attestor that is not configured', () => hello('other'), 'FAILED_PRECONDITION'],
    ['no CSR', () => hello('quiz', new Uint8Array()), 'INVALID_ARGUMENT'],
    ['a CSR that is garbage', () => hello('quiz', Buffer.from('garbage')), 'INVALID_ARGUMENT'],
  ];
  for (const [what, first, code] of malformed) {
    it(`refuses ${what}, before the attestor is asked`, async () => {
      const attestation = attestationBy(() => assert.fail('asked'));
      await assert.rejects(talk(attestation, await first()), { code });
    });
  }

  it('takes evidence that others can read once, until an operator evicts the agent', async () => {
    const attestation = attestationBy(async () => ({ ...NODE, firstUseOnly: true }));
    await talk(attestation, await hello());
    await assert.rejects(talk(attestation, await hello()), { code: 'ATTESTATION_DENIED' });
    await world.agents.evict(ID.toString(), { kind: 'operator' });
    assert.deepEqual(await talk(attestation, await hello()), ['result']);
  });

  it('refuses a banned node, tells it so, and audits the attempt', async () => {
    const attestation = attestationBy(async () => NODE);
    await talk(attestation, await hello());
    await world.agents.ban(ID.toString(), { kind: 'operator' });
    await assert.rejects(
      talk(attestation, await hello()),
      (error: { code?: string; details?: unknown }) => {
        assert.equal(error.code, 'PERMISSION_DENIED');
        return error.details !== undefined;
      },
    );
    await world.refusals.flush();
    const event = (await world.events()).at(-1);
    assert.deepEqual(
      [event?.type, event?.actor?.address, event?.reason],
      ['agent.attestation_refused', '127.0.0.1', 'failed to attest: agent is banned'],
    );
  });

  it("does not take an agent ID outside the attestor's own name space", async () => {
    const agentId = SpiffeId.parse(`spiffe://${TD}/spire/server`);
    const attestation = attestationBy(async () => ({ ...NODE, agentId }));
    await assert.rejects(talk(attestation, await hello()), { name: 'Error' });
    assert.equal((await world.store.all('select 1 from agents')).length, 0);
  });

  const lock = async () => {
    const target = { target: { case: 'agentId' as const, value: ID.toString() } };
    const value = create(LockSchema, { name: 'l', target });
    const body = toBinary(
      ResourceSchema,
      create(ResourceSchema, { name: 'l', body: { case: 'lock', value } }),
    );
    await world.store.transaction((tx) =>
      tx.run(`insert into resources values ('Lock', 'l', 1, ?, 0)`, body),
    );
  };
  const locked = { code: 'PERMISSION_DENIED', message: 'this agent is locked' };

  it('refuses a locked node', async () => {
    await lock();
    const attestation = attestationBy(async () => NODE);
    await assert.rejects(talk(attestation, await hello()), locked);
  });

  it('renews no locked node', async () => {
    const attestation = attestationBy(async () => ({ ...NODE, canReattest: false }));
    await talk(attestation, await hello());
    const record = await findAgent(world.store, ID);
    assert.ok(record);
    await attestation.renew(record, await anyCsr(), { id: ID });
    await lock();
    await assert.rejects(attestation.renew(record, await anyCsr(), { id: ID }), locked);
  });

  it('renews no node that can attest again', async () => {
    const attestation = attestationBy(async () => NODE);
    await talk(attestation, await hello());
    const record = await findAgent(world.store, ID);
    assert.ok(record);
    await assert.rejects(attestation.renew(record, await anyCsr(), { id: ID }), {
      code: 'PERMISSION_DENIED',
      message: 'agent must attest again',
    });
  });
});
