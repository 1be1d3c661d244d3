import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { createRequire } from 'node:module';
import { algorithmOffer, hostKeyAlgorithms, hostSigners } from './ssh2-host-keys.ts';
import { createProtocol } from './ssh2-internals.ts';
import { selfTest } from './ssh2-self-test.ts';

describe('selfTest', () => {
  it('passes with the ssh2 that is installed', async () => {
    await selfTest();
  });

  for (const method of ['rekey', 'cleanup'] as const) {
    it(`does not pass where ssh2's ${method} is not what it was`, async () => {
      const { prototype } = createRequire(import.meta.url)('ssh2/lib/protocol/Protocol.js');
      const original = prototype[method];
      prototype[method] = () => {
        if (method === 'cleanup') throw new Error('changed');
      };
      try {
        await assert.rejects(selfTest(), { code: 'STATE_UNUSABLE' });
      } finally {
        prototype[method] = original;
      }
    });
  }
});

describe('createProtocol', () => {
  it('makes no client that accepts any host', () => {
    const config = {
      ...{ server: false, ident: 'x', offer: algorithmOffer(['ssh-ed25519']) },
      ...{ onWrite: () => undefined, onError: () => undefined },
      ...{ onHandshakeComplete: () => undefined },
      messageHandlers: { DISCONNECT: () => undefined },
    };
    assert.throws(() => createProtocol(config), /host verifier/);
    const protocol = createProtocol({ ...config, hostVerifier: () => false });
    protocol.cleanup();
  });
});

describe('algorithmOffer', () => {
  it('has nothing of SHA-1, no CBC, no compression', () => {
    const { kex, cs, sc } = algorithmOffer(['ssh-ed25519']);
    const names = [...kex, ...cs.cipher, ...cs.mac, ...cs.compress].join(' ');
    assert.doesNotMatch(names, /sha1|cbc|zlib|md5|arcfour|group/);
    assert.deepEqual(cs, sc);
  });
});

describe('hostSigners', () => {
  it('offers certificates before plain keys, and RSA by SHA-2 alone', () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const ed25519 = generateKeyPairSync('ed25519').privateKey;
    const exchange = () => {
      throw new Error('unused');
    };
    const keys = [
      { privateKey: rsa, certificate: undefined },
      { privateKey: ed25519, certificate: Buffer.from('000000017800000000', 'hex') },
    ];
    assert.deepEqual(Object.keys(hostSigners(keys, exchange)), [
      'ssh-ed25519-cert-v01@openssh.com',
      'rsa-sha2-512',
      'rsa-sha2-256',
      'ssh-ed25519',
    ]);
    assert.deepEqual(hostKeyAlgorithms('ssh-rsa'), ['rsa-sha2-512', 'rsa-sha2-256']);
  });
});
