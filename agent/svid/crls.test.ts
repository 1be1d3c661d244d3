import assert from 'node:assert/strict';
import { MAXIMUM_CRL_BYTES } from '../../identity/x509/crl.ts';
import { RpcError } from '../../runtime/grpc-client.ts';
import type { ServerLink } from '../server-link.ts';
import { ServerCrls } from './crls.ts';

const { signal } = new AbortController();

describe('ServerCrls', () => {
  let answer: () => readonly Uint8Array[];
  const link = { call: async () => ({ crls: answer() }) } as unknown as ServerLink;

  it('tells the lists when they are others than before', async () => {
    const crls = new ServerCrls({ link });
    answer = () => [Buffer.from('a')];
    assert.deepEqual(await crls.sync(signal), [Buffer.from('a')]);
    assert.equal(await crls.sync(signal), undefined);
    answer = () => [Buffer.from('b')];
    assert.deepEqual(await crls.sync(signal), [Buffer.from('b')]);
    answer = () => [];
    assert.deepEqual(await crls.sync(signal), []);
  });

  it('has none from a server that knows of none, and none that are too long together', async () => {
    const crls = new ServerCrls({ link });
    answer = () => {
      throw new RpcError('UNIMPLEMENTED', 'unknown service');
    };
    assert.equal(await crls.sync(signal), undefined);
    answer = () => [Buffer.alloc(MAXIMUM_CRL_BYTES), Buffer.alloc(1)];
    assert.equal(await crls.sync(signal), undefined);
  });

  it('fails with what else the call fails with', async () => {
    const crls = new ServerCrls({ link });
    answer = () => {
      throw new RpcError('UNAVAILABLE', 'away');
    };
    await assert.rejects(crls.sync(signal), { status: 'UNAVAILABLE' });
  });
});
