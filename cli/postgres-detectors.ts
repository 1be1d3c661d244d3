/** Recognises personal data and secrets by a column's name and by its values. */

export type DataKind =
  | 'email'
  | 'card'
  | 'national-id'
  | 'phone'
  | 'secret'
  | 'iban'
  | 'birthday'
  | 'free-text';

const MAXIMUM_VALUE = 4096;

const EMAIL = /^[^\s@]{1,64}@[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63}){1,8}$/i;
const EMAIL_WITHIN = /[a-z0-9._%+-]{1,64}@[a-z0-9-]{1,63}\.[a-z]{2,24}/i;
const SSN = /^(?!000|666)\d{3}-(?!00)\d{2}-(?!0000)\d{4}$/;
const SSN_WITHIN = /(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)/;
const PHONE = /^\+[1-9][\d ().-]{6,20}$/;
const JWT = /^eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*$/;
const KEY =
  /^(sk|pk|rk)_(live|test)_\w{8,}$|^(AKIA|ASIA)[A-Z0-9]{16}$|^gh[pousr]_\w{20,}$|^github_pat_\w{20,}$|^glpat-[\w-]{16,}$|^xox[abpr]-[\w-]{10,}$|^AIza[\w-]{30,}$|^sk-[\w-]{20,}$|^-----BEGIN [A-Z ]*PRIVATE KEY-----/;
const PASSWORD_HASH = /^\$(2[aby]|argon2(id|i|d)|5|6|scrypt)\$|^SCRAM-SHA-256\$|^pbkdf2/i;

/** What a whole value is; `free-text` where such data stands within a longer text. */
export function kindOfValue(value: string): DataKind | undefined {
  const text = value.slice(0, MAXIMUM_VALUE).trim();
  if (EMAIL.test(text)) return 'email';
  if (SSN.test(text)) return 'national-id';
  if (isCard(text)) return 'card';
  if (isIban(text)) return 'iban';
  if (JWT.test(text) || KEY.test(text) || PASSWORD_HASH.test(text)) return 'secret';
  if (PHONE.test(text)) return 'phone';
  return EMAIL_WITHIN.test(text) || SSN_WITHIN.test(text) ? 'free-text' : undefined;
}

/** 13 to 19 digits, alone or in groups, with a right check digit. */
export function isCard(text: string): boolean {
  if (!/^[2-6](?:[ -]?\d){12,18}$/.test(text)) return false;
  const digits = [...text.replaceAll(/[ -]/g, '')].map(Number).reverse();
  const sum = digits.reduce((total, digit, place) => {
    const doubled = place % 2 === 1 ? digit * 2 : digit;
    return total + (doubled > 9 ? doubled - 9 : doubled);
  }, 0);
  return sum % 10 === 0;
}

/** Source: ISO 13616: the number, its first four characters moved to the end, leaves 1 by 97. */
export function isIban(text: string): boolean {
  const bare = text.replaceAll(' ', '');
  if (!/^[A-Z]{2}\d{2}[A-Z0-9]{11,30}$/.test(bare)) return false;
  const moved = bare.slice(4) + bare.slice(0, 4);
  let rest = 0;
  for (const character of moved) {
    for (const digit of String(Number.parseInt(character, 36))) {
      rest = (rest * 10 + Number(digit)) % 97;
    }
  }
  return rest === 1;
}

const NAMES: readonly (readonly [DataKind, RegExp])[] = [
  ['email', /(^|_)e?_?mail(_?addr(ess)?)?$/],
  ['card', /(^|_)(card|cc|pan)_?(number|num|no)$|^pan$|(^|_)credit_?card$/],
  [
    'national-id',
    /(^|_)(ssn|social_security(_number)?|national_(id|number|no)|nino|bsn|cpf|pesel|nif|dni|tax_?(id|number)|passport(_?(no|number))?|driver_?licen[cs]e(_?(no|number))?)$/,
  ],
  ['phone', /(^|_)(phone|mobile|cell|fax|tel|telephone|msisdn)(_?(number|num|no))?$/],
  ['iban', /(^|_)(iban|bank_?account(_?(number|no))?)$/],
  ['birthday', /(^|_)(dob|born|birth_?date|date_of_birth|birth_?day|born_(at|on))$/],
  [
    'secret',
    /(^|_)(password|passwd|pwd|passphrase|secret|token|api_?key|access_?key|private_?key|secret_?key|credentials?)(_?hash|_?digest)?$|^(password|passwd|pwd)_/,
  ],
];

/** What a column's name says, in snake or camel case. */
export function kindOfName(name: string): DataKind | undefined {
  const snake = name.replaceAll(/([a-z0-9])([A-Z])/g, '$1_$2').toLowerCase();
  return NAMES.find(([, pattern]) => pattern.test(snake))?.[0];
}

/** A value's shape alone, for people: no character of it but punctuation. */
export function shapeOf(value: string): string {
  const shape = value
    .slice(0, 40)
    .replaceAll(/\p{Nd}/gu, '0')
    .replaceAll(/[^\x20-\x7e]|[a-z]/giu, 'x');
  return value.length > 40 ? `${shape}...` : shape;
}
