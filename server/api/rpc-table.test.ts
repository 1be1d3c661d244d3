import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SpiffeId } from '../../identity/spiffe-id.ts';
import type { VerifiedSvid } from '../../identity/verify.ts';
import { Fault } from '../../runtime/fault.ts';
import { TD } from '../../test/fixtures/registry-world.ts';
import type { Caller, CallerKind, ServerPeer } from './callers.ts';
import { RPC_TABLE, rpcGuard } from './rpc-table.ts';

const PATHS: Readonly<Record<Exclude<CallerKind, 'local' | 'anonymous'>, string>> = {
  agent: '/spire/agent/join_token/a',
  gateway: '/writ/gateway/a',
  workload: '/web',
};

const KINDS: readonly CallerKind[] = ['local', 'agent', 'gateway', 'workload', 'anonymous'];

describe('rpcGuard', () => {
  /** A guard whose store backs every claim, and what it was asked to prove. */
  const guarded = () => {
    const proved: ServerPeer[] = [];
    const guard = rpcGuard(async (peer) => {
      proved.push(peer);
      return callerOf(peer);
    });
    return { guard, proved };
  };

  const admits = async (method: string, kind: CallerKind, open: boolean) => {
    const { guard, proved } = guarded();
    const caller = await guard({ peer: peerOf(kind), method, metadata: new Map() });
    assert.equal(proved.length, open ? 0 : 1);
    assert.equal(caller.kind, open && kind !== 'local' ? 'anonymous' : kind);
  };
  const refuses = async (method: string, kind: CallerKind) => {
    const { guard, proved } = guarded();
    const attempt = { peer: peerOf(kind), method, metadata: new Map() };
    await assert.rejects(async () => guard(attempt), { code: 'PERMISSION_DENIED' });
    assert.equal(proved.length, 0);
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
      const attempt = { peer: peerOf(kind), method: '/a.B/C', metadata: new Map() };
      await assert.rejects(async () => guard(attempt), { code: 'PERMISSION_DENIED' });
    }
  });

  it('refuses a claim that the store does not back', async () => {
    const guard = rpcGuard(async () => {
      throw new Fault('PERMISSION_DENIED', 'agent is banned');
    });
    const method = '/spire.api.server.agent.v1.Agent/RenewAgent';
    const attempt = { peer: peerOf('agent'), method, metadata: new Map() };
    await assert.rejects(async () => guard(attempt), { message: 'agent is banned' });
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
    assert.deepEqual([count('new RpcServer'), count('guard: rpcGuard(prove)')], [1, 1]);
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
