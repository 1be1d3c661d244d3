import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import type { VerifiedSvid } from '../../identity/verify.ts';
import { Fault } from '../../runtime/fault.ts';
import { TD } from '../../test/fixtures/registry-world.ts';
import { type Caller, type CallerKind, isMemberKind, type ServerPeer } from './callers.ts';
import { type Callers, RPC_TABLE, rpcGuard } from './rpc-table.ts';

const PATHS: Readonly<Record<Exclude<CallerKind, 'local' | 'anonymous'>, string>> = {
  agent: '/spire/agent/join_token/a',
  gateway: '/writ/gateway/a',
  workload: '/web',
  admin: '/ops',
  registrar: '/ci',
  downstream: '/nested',
};

const KINDS: readonly CallerKind[] = [
  'local',
  'agent',
  'gateway',
  'workload',
  'admin',
  'registrar',
  'downstream',
  'anonymous',
];

/** What shows of a caller before it is proved. */
const claimed = (kind: CallerKind) => (isMemberKind(kind) ? 'workload' : kind);

/** Facts 2.2 and 2.3, written down a second time. */
const OF_ANYBODY = ['Agent/AttestAgent', 'Bundle/GetBundle'];
const OF_AGENTS = [
  'Agent/RenewAgent',
  'Agent/PostStatus',
  'Entry/GetAuthorizedEntries',
  'Entry/SyncAuthorizedEntries',
  'SVID/BatchNewX509SVID',
  'SVID/NewJWTSVID',
  'SVID/BatchNewWITSVID',
];
const OF_NESTED_SERVERS = [
  'SVID/NewDownstreamX509CA',
  'Bundle/PublishJWTAuthority',
  'Bundle/PublishWITAuthority',
];
const LOCAL_SERVICES = ['Health', 'Debug', 'Logger'];

function expected(service: string, method: string): Callers {
  const name = `${service}/${method}`;
  if (OF_ANYBODY.includes(name)) return 'any';
  if (OF_AGENTS.includes(name)) return ['agent'];
  if (OF_NESTED_SERVERS.includes(name)) return ['downstream'];
  if (name === 'Bundle/GetFederatedBundle') return ['local', 'admin', 'agent'];
  if (LOCAL_SERVICES.includes(service)) return ['local'];
  return service === 'Entry' ? ['local', 'admin', 'registrar'] : ['local', 'admin'];
}

describe('RPC_TABLE', () => {
  for (const [path, callers] of RPC_TABLE) {
    const [, type = '', method = ''] = path.split('/');
    const service = type.split('.').at(-1) ?? '';
    if (type.startsWith('writ.admin.'))
      it(`S1: keeps ${path} to the admin socket`, () => assert.deepEqual(callers, ['local']));
    else if (type.startsWith('spire.') || type.startsWith('grpc.'))
      it(`S1: gives ${path} to whom SPIRE gives it`, () =>
        assert.deepEqual(callers, expected(service, method)));
    else
      it(`S1: gives ${path} to agents or to gateways alone`, () =>
        assert.ok(callers !== 'any' && ['agent', 'gateway'].includes(callers.join())));
  }
});

const CALL = { requestId: 'r_1', metadata: new Map() };

describe('rpcGuard', () => {
  /** A guard whose store backs every claim, and what it was asked to prove. */
  const guarded = () => {
    const proved: ServerPeer[] = [];
    const told: string[] = [];
    const prove = async (peer: ServerPeer) => {
      proved.push(peer);
      return callerOf(peer);
    };
    const gate = { admit: (_: unknown, method: string) => void told.push(method) };
    return { guard: rpcGuard(prove, gate), proved, told };
  };

  const admits = async (method: string, kind: CallerKind, open: boolean) => {
    const { guard, proved, told } = guarded();
    const caller = await guard({ peer: peerOf(kind), ...CALL, method });
    assert.equal(proved.length, open ? 0 : 1);
    assert.equal(caller.kind, open && kind !== 'local' ? 'anonymous' : kind);
    assert.equal(caller.requestId, CALL.requestId);
    assert.deepEqual(told, kind === 'local' ? [method] : []);
  };
  const refuses = async (method: string, kind: CallerKind) => {
    const { guard, proved } = guarded();
    const attempt = { peer: peerOf(kind), ...CALL, method };
    await assert.rejects(async () => guard(attempt), { code: 'PERMISSION_DENIED' });
    // A workload's SPIFFE ID does not show what else it is.
    const callers = RPC_TABLE.get(method) ?? 'any';
    const asked = claimed(kind) === 'workload' && callers !== 'any' && callers.some(isMemberKind);
    assert.equal(proved.length, asked ? 1 : 0);
  };

  for (const [method, callers] of RPC_TABLE) {
    for (const kind of KINDS) {
      const open = callers === 'any';
      if (open || callers.includes(kind))
        it(`S1: admits ${kind} at ${method}`, () => admits(method, kind, open));
      else it(`S1: refuses ${kind} at ${method}`, () => refuses(method, kind));
    }
  }

  it('refuses a method that has no row, to everybody', async () => {
    for (const kind of KINDS) {
      const { guard } = guarded();
      const attempt = { peer: peerOf(kind), ...CALL, method: '/a.B/C' };
      await assert.rejects(async () => guard(attempt), { code: 'PERMISSION_DENIED' });
    }
  });

  it('refuses a claim that the store does not back', async () => {
    const prove = async () => {
      throw new Fault('PERMISSION_DENIED', 'agent is banned');
    };
    const guard = rpcGuard(prove, { admit: () => undefined });
    const method = '/spire.api.server.agent.v1.Agent/RenewAgent';
    const attempt = { peer: peerOf('agent'), ...CALL, method };
    await assert.rejects(async () => guard(attempt), { message: 'agent is banned' });
  });

  it('S16: refuses what the gate of the admin socket refuses, before anything is proved', async () => {
    const proved: ServerPeer[] = [];
    const gate = {
      admit: () => {
        throw new Fault('PERMISSION_DENIED', 'limited');
      },
    };
    const guard = rpcGuard(async (peer) => {
      proved.push(peer);
      return callerOf(peer);
    }, gate);
    for (const [method, callers] of RPC_TABLE) {
      if (callers !== 'any' && !callers.includes('local')) continue;
      const attempt = { peer: peerOf('local'), ...CALL, method };
      await assert.rejects(async () => guard(attempt), { message: 'limited' });
    }
    assert.deepEqual(proved, []);
  });

  it('stands before every RpcServer that server/ makes', () => {
    const root = join(import.meta.dirname, '..');
    const makers = readdirSync(root, { recursive: true })
      .map(String)
      .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
      .filter((file) => readFileSync(join(root, file), 'utf8').includes('new RpcServer'));
    assert.deepEqual(makers, ['endpoints.ts']);
    const source = readFileSync(join(root, 'endpoints.ts'), 'utf8');
    const count = (text: string) => source.split(text).length - 1;
    assert.deepEqual(
      [
        count('new RpcServer'),
        count('const guard = rpcGuard(prove, gate);'),
        count('return guard(attempt);'),
      ],
      [1, 1, 1],
    );
  });
});

function peerOf(kind: CallerKind): ServerPeer {
  if (kind === 'local') return { kind: 'local', uid: 0, pid: 1, executable: '/bin/true' };
  const address = '127.0.0.1:1';
  if (kind === 'anonymous') return { kind: 'remote', connection: { peer: undefined, address } };
  const peer = { id: SpiffeId.parse(`spiffe://${TD}${PATHS[kind]}`) } as VerifiedSvid;
  return { kind: 'remote', connection: { peer, address } };
}

function callerOf(peer: ServerPeer): Caller {
  if (peer.kind === 'local') return peer;
  const { peer: svid, address } = peer.connection;
  if (svid === undefined) return { kind: 'anonymous', address };
  const { id } = svid;
  const kind = KINDS.find((one) => one in PATHS && PATHS[one as keyof typeof PATHS] === id.path);
  return { kind, id, address } as Caller;
}
