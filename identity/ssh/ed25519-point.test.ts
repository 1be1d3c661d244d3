import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes, verify } from 'node:crypto';
import { isEd25519Point } from './ed25519-point.ts';

const bytes = (hex: string) => Buffer.from(hex, 'hex');
const y = (value: bigint) => bytes(value.toString(16).padStart(64, '0')).reverse();
const P = (1n << 255n) - 19n;

function newPoint(): Buffer {
  const spki = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'der' });
  return spki.subarray(-32);
}

describe('isEd25519Point', () => {
  it('takes the keys that OpenSSL makes', () => {
    for (let count = 0; count < 500; count += 1) {
      const point = newPoint();
      assert.equal(isEd25519Point(point), true, point.toString('hex'));
    }
  });

  it('takes the keys of RFC 8032 7.1', () => {
    for (const hex of [
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
      '3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c',
      'fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025',
    ]) {
      assert.equal(isEd25519Point(bytes(hex)), true, hex);
    }
  });

  it('agrees with Euler on which random bytes are a point', () => {
    const counted = { points: 0, others: 0 };
    for (let count = 0; count < 100; count += 1) {
      const candidate = randomBytes(32);
      const expected = isSquareByEuler(candidate);
      counted[expected ? 'points' : 'others'] += 1;
      assert.equal(isEd25519Point(candidate), expected, candidate.toString('hex'));
    }
    assert.ok(counted.points > 0 && counted.others > 0);
  });

  const smallOrder = {
    'the neutral element': y(1n),
    'the point of order 2': y(P - 1n),
    'a point of order 4': y(0n),
    'a point of order 8': bytes('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a'),
    'another of order 8': bytes('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05'),
  };
  for (const [what, point] of Object.entries(smallOrder)) {
    it(`refuses ${what}, with either sign`, () => {
      const other = Buffer.from(point);
      other[31] = (other[31] ?? 0) ^ 0x80;
      assert.equal(isEd25519Point(point), false);
      assert.equal(isEd25519Point(other), false);
    });
  }

  it('refuses a key under which OpenSSL takes one signature for every message', () => {
    const key = smallOrder['the neutral element'];
    const forged = Buffer.concat([y(1n), Buffer.alloc(32)]);
    const jwk = { kty: 'OKP', crv: 'Ed25519', x: key.toString('base64url') };
    for (const message of ['one', 'another']) {
      const verified = verify(null, Buffer.from(message), { key: jwk, format: 'jwk' }, forged);
      assert.equal(verified, true);
    }
    assert.equal(isEd25519Point(key), false);
  });

  it('refuses a second encoding of a point', () => {
    const small = 3n;
    assert.equal(isEd25519Point(y(small)), true);
    assert.equal(isEd25519Point(y(P + small)), false);
  });

  for (const length of [0, 31, 33]) {
    it(`refuses ${length} bytes`, () => {
      assert.equal(
        isEd25519Point(Buffer.concat([newPoint(), newPoint()]).subarray(0, length)),
        false,
      );
    });
  }
});

/** The same question, decided another way: by Euler's criterion, for y of large order. */
function isSquareByEuler(candidate: Buffer): boolean {
  const d = (-121_665n * power(121_666n, P - 2n)) % P;
  const value = BigInt(`0x${Buffer.from(candidate).reverse().toString('hex')}`);
  const square = (value & ((1n << 255n) - 1n)) ** 2n % P;
  const quotient = (square - 1n) * power(d * square + 1n, P - 2n);
  return power(quotient, (P - 1n) / 2n) === 1n;
}

function power(base: bigint, exponent: bigint): bigint {
  let [result, factor] = [1n, ((base % P) + P) % P];
  for (let left = exponent; left > 0n; left >>= 1n) {
    if ((left & 1n) === 1n) result = (result * factor) % P;
    factor = (factor * factor) % P;
  }
  return result;
}
