import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { newSshKey, rebuiltSshCertificate } from '../../test/fixtures/hand-made-ssh-certificate.ts';
import { parseSshCertificate, type SshCertificate, signSshCertificate } from './certificate.ts';
import { encodePublicKey } from './public-key.ts';
import { signatureAlgorithm, signSsh } from './signature.ts';
import { SshWriter } from './wire.ts';

const newEcKey = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve }).privateKey;
const newRsaKey = () => generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

interface Sample {
  readonly authority: KeyObject;
  readonly blob: Buffer;
  /** How many bytes the signature is over. */
  readonly signed: number;
}

const SAMPLES: Readonly<Record<string, Sample>> = {
  'Ed25519 by Ed25519': sample(newSshKey(), newSshKey()),
  'P-384 by P-256': sample(newEcKey('P-384'), newEcKey('P-256')),
  'RSA by RSA': sample(newRsaKey(), newRsaKey()),
};

const MASKS = [0x01, 0x80, 0xff];

function sample(key: KeyObject, authority: KeyObject): Sample {
  const blob = signSshCertificate(
    {
      type: 'user',
      publicKey: encodePublicKey(key),
      serial: 258n,
      keyId: 'spiffe://example.org/web',
      principals: ['spiffe://example.org/web', 'grün'],
      validAfter: new Date('2026-01-02T03:04:05Z'),
      validBefore: new Date('2026-01-02T03:09:05Z'),
      criticalOptions: { 'force-command': 'ls', 'source-address': '10.0.0.1' },
      extensions: ['permit-X11-forwarding', 'permit-pty'],
    },
    authority,
  );
  const signature = signatureLength(authority, blob);
  return { authority, blob, signed: blob.length - signature };
}

/** Of a certificate's last string, which begins with the name of an algorithm. */
function signatureLength(authority: KeyObject, blob: Buffer): number {
  const algorithm = signatureAlgorithm(signSsh(authority, Buffer.of(0)));
  const name = new SshWriter().string(algorithm).finish();
  return blob.length - blob.lastIndexOf(name) + 4;
}

/** Undefined if it is refused, which has to be with SSH_INVALID. */
function parsed(blob: Buffer): SshCertificate | undefined {
  try {
    return parseSshCertificate(blob);
  } catch (error) {
    assert.ok(error instanceof Error && 'code' in error, String(error));
    assert.equal(error.code, 'SSH_INVALID', String(error));
    return undefined;
  }
}

function* mutations(bytes: Buffer): Generator<Buffer> {
  for (const [at, byte] of bytes.entries()) {
    for (const mask of MASKS) {
      const changed = Buffer.from(bytes);
      changed[at] = byte ^ mask;
      yield changed;
    }
    yield Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1)]);
    yield Buffer.concat([bytes.subarray(0, at), Buffer.of(byte), bytes.subarray(at)]);
  }
}

describe('parseSshCertificate, over what mutates', () => {
  for (const [name, { authority, blob, signed }] of Object.entries(SAMPLES)) {
    it(`refuses every changed, missing and added byte, and every cut: ${name}`, function () {
      this.timeout(60_000);
      assert.ok(parsed(blob) !== undefined);
      let tried = 0;
      for (const changed of mutations(blob)) {
        assert.equal(parsed(changed), undefined, changed.toString('hex'));
        tried += 1;
      }
      for (let length = 0; length < blob.length; length += 1) {
        assert.equal(parsed(blob.subarray(0, length)), undefined, `${length} bytes`);
      }
      assert.ok(tried > MASKS.length * blob.length);
    });

    it(`reads nothing two ways that the authority itself signed: ${name}`, function () {
      this.timeout(60_000);
      const counted = { taken: 0, refused: 0 };
      for (const changed of mutations(blob.subarray(0, signed))) {
        const resigned = new SshWriter().raw(changed).string(signSsh(authority, changed)).finish();
        const certificate = parsed(resigned);
        if (certificate === undefined) {
          counted.refused += 1;
          continue;
        }
        counted.taken += 1;
        assert.deepEqual(rebuiltSshCertificate(certificate), resigned);
      }
      assert.ok(counted.taken > 0 && counted.refused > 0, JSON.stringify(counted));
    });
  }
});
