/** How one recognises a masked column's value in what a client heard. */
import { int16 } from '../../gateway/plugins/backend/postgres/wire/message-body.ts';
import { SECRETS } from '../fixtures/shop-database.ts';

const FORBIDDEN_FORMS: readonly Buffer[] = Object.values(SECRETS).flatMap(formsOf);

/** A secret in the ways in which it could stand in an answer. */
function formsOf(secret: string): Buffer[] {
  const bytes = Buffer.from(secret);
  const texts = [
    secret,
    [...secret].reverse().join(''),
    bytes.toString('hex'),
    ...[0, 1, 2].map((shift) => base64At(bytes, shift)),
    [...bytes].join(','),
    [...secret].join(','),
    secret.replaceAll(/\d/g, (digit) => String.fromCharCode(97 + Number(digit))),
    secret.slice(0, 6),
  ];
  const digits = secret.replaceAll('-', '');
  if (/^\d+$/.test(digits)) texts.push(digits);
  const forms: Buffer[] = texts.map((text) => Buffer.from(text));
  forms.push(Buffer.from(secret, 'utf16le'));
  if (/^\d+$/.test(digits)) {
    const number = Buffer.alloc(8);
    number.writeBigInt64BE(BigInt(digits));
    const real = Buffer.alloc(8);
    real.writeDoubleBE(Number(digits));
    forms.push(number, real, numericDigits(digits));
  }
  return forms;
}

function base64At(bytes: Buffer, shift: number): string {
  const text = Buffer.concat([Buffer.alloc(shift), bytes])
    .toString('base64')
    .replace(/=+$/, '');
  return text.slice(shift === 0 ? 0 : shift + 1, -1);
}

/** Groups of four decimal digits, as numeric is sent in binary. */
function numericDigits(digits: string): Buffer {
  const padded = digits.padStart(Math.ceil(digits.length / 4) * 4, '0');
  const groups = padded.match(/.{4}/g) ?? [];
  return Buffer.concat(groups.map((group) => int16(Number(group))));
}

/** The forms that these bytes hold. */
export function leaksIn(bytes: Buffer): string[] {
  return FORBIDDEN_FORMS.filter((form) => bytes.includes(form)).map((form) =>
    form.toString('latin1'),
  );
}
