import assert from 'node:assert/strict';
import { Fault } from '../../runtime/fault.ts';
import { createLogger } from '../../runtime/log.ts';
import type { WorkloadAttestor } from '../plugins/workload-attestor/workload-attestor.ts';
import { attestPeer } from './attest-peer.ts';

const log = createLogger({ process: 'agent', level: 'silent' });
const attestor = (type: string, ...values: string[]): WorkloadAttestor => ({
  type,
  attest: async () => values,
});
const broken: WorkloadAttestor = {
  type: 'broken',
  attest: async () => {
    throw new Error('broken');
  },
};
const alive = { pid: 7, uid: 1, gid: 1, alive: () => true };

describe('attestPeer', () => {
  it('gives each value the type of its attestor', async () => {
    const selectors = await attestPeer(alive, {
      attestors: [attestor('a', 'x', 'y'), attestor('b', 'x')],
      log,
    });
    assert.deepEqual([...selectors], ['a:x', 'a:y', 'b:x']);
  });

  it('tells each attestor what of its values is wanted, all if nobody says', async () => {
    const names = ['x', 'y', 'x:y'];
    const asking = (type: string): WorkloadAttestor => ({
      type,
      attest: async (_process, wanted) => names.filter((name) => wanted.has(name)),
    });
    const attestors = [asking('a'), asking('b')];
    const wanted = new Set(['a:x', 'b:y']);
    const some = await attestPeer(alive, { attestors, log, wanted });
    assert.deepEqual([...some], ['a:x', 'b:y']);
    const all = await attestPeer(alive, { attestors, log });
    assert.deepEqual([...all], ['a:x', 'a:y', 'a:x:y', 'b:x', 'b:y', 'b:x:y']);
  });

  it('refuses what was read of a process that had ended by then', async () => {
    let read = false;
    const peer = { ...alive, alive: () => !read };
    const late: WorkloadAttestor = {
      type: 'late',
      attest: async () => {
        read = true;
        return ['of somebody else'];
      },
    };
    await assert.rejects(attestPeer(peer, { attestors: [late], log }), {
      code: 'ATTESTATION_DENIED',
    });
  });

  it('refuses a process that one attestor denies, whatever the others say', async () => {
    const denying: WorkloadAttestor = {
      type: 'denying',
      attest: async () => {
        throw new Fault('ATTESTATION_DENIED', 'no');
      },
    };
    const attested = attestPeer(alive, { attestors: [attestor('a', 'x'), denying], log });
    await assert.rejects(attested, { code: 'ATTESTATION_DENIED' });
  });

  it('goes on without an attestor that fails, but not without all', async () => {
    assert.deepEqual(
      [...(await attestPeer(alive, { attestors: [broken, attestor('a', 'x')], log }))],
      ['a:x'],
    );
    await assert.rejects(attestPeer(alive, { attestors: [broken], log }), { code: 'UNAVAILABLE' });
  });
});
