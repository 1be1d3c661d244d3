/** The classes of callers at a server that runs: what the table says is what the TLS port does. */
import assert from 'node:assert/strict';
import type { DescService } from '@bufbuild/protobuf';
import { createCsr } from '../../identity/x509/csr.ts';
import { generateKey } from '../../identity/x509/key.ts';
import { type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import { Health } from '../../proto/gen/grpc/health/v1/health_pb.ts';
import { Agent } from '../../proto/gen/spire/api/server/agent/v1/agent_pb.ts';
import { Bundle } from '../../proto/gen/spire/api/server/bundle/v1/bundle_pb.ts';
import { Debug } from '../../proto/gen/spire/api/server/debug/v1/debug_pb.ts';
import { Entry } from '../../proto/gen/spire/api/server/entry/v1/entry_pb.ts';
import { LocalAuthority } from '../../proto/gen/spire/api/server/localauthority/v1/localauthority_pb.ts';
import { Logger } from '../../proto/gen/spire/api/server/logger/v1/logger_pb.ts';
import { SVID } from '../../proto/gen/spire/api/server/svid/v1/svid_pb.ts';
import { TrustDomain } from '../../proto/gen/spire/api/server/trustdomain/v1/trustdomain_pb.ts';
import * as admin from '../../proto/gen/writ/admin/v1/admin_pb.ts';
import { AgentService } from '../../proto/gen/writ/agent/v1/agent_pb.ts';
import { GatewayService } from '../../proto/gen/writ/gateway/v1/gateway_pb.ts';
import { type RpcChannel, RpcError } from '../../runtime/grpc-client.ts';
import { registrarInit } from '../../test/fixtures/registrar-init.ts';
import { type EntryInit, entryInit, TD } from '../../test/fixtures/registry-world.ts';
import { CALL, RunningServer } from '../../test/fixtures/running-server.ts';
import type { CallerKind } from './callers.ts';
import { RPC_TABLE } from './rpc-table.ts';

const SERVICES: readonly DescService[] = [
  ...[Agent, Bundle, Entry, SVID, TrustDomain, LocalAuthority],
  ...[Health, Debug, Logger, AgentService, GatewayService],
  ...Object.values(admin).filter((one) => 'kind' in one && one.kind === 'service'),
];

describe('The TLS port', () => {
  let server: RunningServer;
  let agent: { readonly svid: X509Svid; readonly channel: RpcChannel };
  before(async () => {
    server = await RunningServer.start({ config: { admin_ids: [`spiffe://${TD}/named`] } });
    agent = await server.newAgent();
  });
  after(() => server[Symbol.asyncDispose]());

  const workload = async (path: string, more: EntryInit = {}) => {
    const entry = await server.entryUnder(agent.svid, path, more);
    const key = await generateKey('ec-p256');
    const params = [{ entryId: entry.id, csr: createCsr(key) }];
    const { results } = await agent.channel.client(SVID).batchNewX509SVID({ params }, CALL);
    return server.dial(x509Svid(results[0]?.svid?.certChain ?? [], key));
  };
  /** The status of an empty call. */
  const call = async (channel: RpcChannel, service: DescService, name: string): Promise<string> => {
    const client = channel.client(service) as Record<string, (...of: unknown[]) => unknown>;
    const method = service.methods.find(({ localName }) => localName === name);
    async function* nothing() {}
    const streams = method?.methodKind.endsWith('streaming');
    const takesStream =
      method?.methodKind === 'bidi_streaming' || method?.methodKind === 'client_streaming';
    const request = takesStream ? nothing() : {};
    try {
      const answer = client[name]?.(request, CALL);
      if (!streams) await answer;
      else for await (const _ of answer as AsyncIterable<unknown>) break;
      return 'OK';
    } catch (error) {
      if (error instanceof RpcError) return error.status;
      throw error;
    }
  };
  const CLOSED = /^(?:PERMISSION_DENIED|UNIMPLEMENTED)$/;

  /** Each RPC that the table keeps from `kind`, at this port. */
  const closedTo = async (channel: RpcChannel, kind: CallerKind) => {
    for (const service of SERVICES) {
      for (const { name, localName } of service.methods) {
        const callers = RPC_TABLE.get(`/${service.typeName}/${name}`);
        assert.ok(callers, `${service.typeName}/${name} has no row`);
        if (callers === 'any' || callers.includes(kind)) continue;
        assert.match(await call(channel, service, localName), CLOSED, `${kind} at ${name}`);
      }
    }
  };

  const kinds: [CallerKind, () => Promise<RpcChannel>][] = [
    ['anonymous', () => server.dial()],
    ['agent', async () => agent.channel],
    ['workload', () => workload('/plain')],
    ['admin', () => workload('/admin', { admin: true })],
    ['downstream', () => workload('/nested', { downstream: true })],
    [
      'registrar',
      async () => {
        await server
          .admin(admin.RegistrarService)
          .putRegistrar({ registrar: registrarInit() }, CALL);
        return workload('/ci');
      },
    ],
  ];
  for (const [kind, open] of kinds) {
    it(`S1: keeps everything from ${kind} that the table does not give it`, async () => {
      await closedTo(await open(), kind);
    });
  }

  it('S1: lets an admin register, by its entry or by the configuration', async () => {
    for (const [path, more] of [
      ['/boss', { admin: true }],
      ['/named', {}],
    ] as const) {
      const rpc = (await workload(path, more)).client(Entry);
      const init = entryInit({ path: `/made-by${path}`, parent: agent.svid.id.path });
      const { results } = await rpc.batchCreateEntry({ entries: [init] }, CALL);
      assert.equal(results[0]?.status?.code, 0, results[0]?.status?.message);
      const told = (await server.events()).filter(
        ({ entryId }) => entryId === results[0]?.entry?.id,
      );
      assert.deepEqual(
        told.map(({ type, actor }) => [type, actor?.kind, actor?.spiffeId]),
        [['entry.created', 'admin', `spiffe://${TD}${path}`]],
      );
    }
  });

  it('S1: does not start with an admin of another trust domain', async () => {
    const config = { admin_ids: ['spiffe://other.org/ops'] };
    await assert.rejects(RunningServer.start({ config }), {
      code: 'CONFIG_INVALID',
      message: /admin_ids: spiffe:\/\/other.org/,
    });
  });

  it('S1: forgets an admin at the next call of its connection', async () => {
    const channel = await workload('/short', { admin: true });
    await channel.client(Entry).countEntries({}, CALL);
    const filter = { bySpiffeId: { trustDomain: TD, path: '/short' } };
    const { entries } = await server.admin(Entry).listEntries({ filter }, CALL);
    await server.admin(Entry).batchDeleteEntry({ ids: entries.map(({ id }) => id) }, CALL);
    assert.equal(await call(channel, Entry, 'countEntries'), 'PERMISSION_DENIED');
  });

  it('S15: holds a registrar to its bounds', async () => {
    const bounds = { spiffeId: `spiffe://${TD}/robot`, parents: [agent.svid.id.toString()] };
    const registrar = registrarInit(bounds);
    await server.admin(admin.RegistrarService).putRegistrar({ registrar }, CALL);
    const rpc = (await workload('/robot')).client(Entry);
    const under = { parent: agent.svid.id.path };
    const { results } = await rpc.batchCreateEntry(
      {
        entries: [
          entryInit({ ...under, path: '/apps/a' }),
          entryInit({ ...under, path: '/elsewhere' }),
        ],
      },
      CALL,
    );
    assert.deepEqual(
      results.map(({ status }) => status?.code),
      [0, 7],
    );
    assert.match(results[1]?.status?.message ?? '', /^spiffe_ids: /);
    assert.equal((await rpc.countEntries({}, CALL)).count, 1);
  });
});
