/**
 * Which 32 bytes are a public key of Ed25519. OpenSSL takes any; under a point of small order, though,
 * one signature fits many messages, and under bytes that are no point nothing verifies.
 */
const P = (1n << 255n) - 19n;
const D =
  37_095_705_934_669_439_343_138_083_508_754_565_189_542_113_879_843_219_016_388_785_533_085_940_283_555n;

/** Of the points whose order divides 8, the y coordinates. Source: libsodium, ge25519_has_small_order. */
const SMALL_ORDER: ReadonlySet<bigint> = new Set([
  0n,
  1n,
  P - 1n,
  littleEndian(
    Buffer.from('c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a', 'hex'),
  ),
  littleEndian(
    Buffer.from('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05', 'hex'),
  ),
]);

/**
 * Whether the bytes are the one encoding of a point of the curve, and that of large order.
 *
 * Source: RFC 8032 5.1.3.
 */
export function isEd25519Point(bytes: Uint8Array): boolean {
  if (bytes.length !== 32) return false;
  const y = littleEndian(bytes) & ((1n << 255n) - 1n);
  if (y >= P || SMALL_ORDER.has(y)) return false;
  // x^2 = (y^2 - 1) / (d y^2 + 1), which is a square exactly when numerator times denominator is.
  const square = (y * y) % P;
  return jacobi(((square - 1n) * (D * square + 1n)) % P, P) === 1;
}

function littleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`);
}

/** The Jacobi symbol (a/n) of an odd n; with a prime n it is 1 exactly for the squares but 0. */
function jacobi(a: bigint, n: bigint): number {
  let [top, bottom, sign] = [a % n, n, 1];
  while (top !== 0n) {
    while ((top & 1n) === 0n) {
      top >>= 1n;
      const eighth = bottom & 7n;
      if (eighth === 3n || eighth === 5n) sign = -sign;
    }
    if ((top & 3n) === 3n && (bottom & 3n) === 3n) sign = -sign;
    [top, bottom] = [bottom % top, top];
  }
  return bottom === 1n ? sign : 0;
}
