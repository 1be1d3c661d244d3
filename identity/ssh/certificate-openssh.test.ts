/** OpenSSH as the judge of our certificates, and we of its. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newSshKey, rebuiltSshCertificate } from '../../test/fixtures/hand-made-ssh-certificate.ts';
import { hasProgram, skipWithout } from '../../test/fixtures/programs.ts';
import {
  parseCertificateLine,
  parseSshCertificate,
  type SshCertificate,
  type SshCertificateInit,
  signSshCertificate,
} from './certificate.ts';
import { opensshPrivateKey } from './private-key.ts';
import { encodePublicKey, fingerprint, parsePublicKeyLine, publicKeyLine } from './public-key.ts';

const COUNT = 2000;

/** Choices that are the same in each run, so that a failure can be had again. */
class Choices {
  #drawn = 0;

  below(limit: number): number {
    const digest = createHash('sha256').update(`choice ${this.#drawn}`).digest();
    this.#drawn += 1;
    return digest.readUInt32BE() % limit;
  }

  of<T>(list: readonly [T, ...T[]]): T {
    return list[this.below(list.length)] ?? list[0];
  }

  some<T>(list: readonly T[]): T[] {
    return list.filter(() => this.below(2) === 0);
  }

  u64(): bigint {
    const digest = createHash('sha256').update(`u64 ${this.#drawn}`).digest();
    this.#drawn += 1;
    return digest.readBigUInt64BE() >> BigInt(this.below(64));
  }
}

const CURVES = ['P-256', 'P-384', 'P-521'] as const;
const newEcKey = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve }).privateKey;
const newRsaKey = (modulusLength: number) =>
  generateKeyPairSync('rsa', { modulusLength }).privateKey;

const AUTHORITIES = [newSshKey(), newEcKey('P-256'), newEcKey('P-384'), newEcKey('P-521')] as const;
const RSA_KEYS = [newRsaKey(2048), newRsaKey(2049), newRsaKey(3072)] as const;

const TEXTS = [
  'spiffe://example.org/web',
  'web-1/deploy',
  'a',
  'with blanks and "quotes"',
  'gr\u00fcn \u{1f511} \u6f22',
  'x'.repeat(500),
  'web-1.example.org',
  '*.example.org',
] as const;

const CRITICAL = {
  'force-command': 'internal-sftp -l VERBOSE',
  'source-address': '10.0.0.0/8,fd00::/8,192.0.2.1',
  'verify-required': '',
  'x-unknown@example.org': 'some value',
  'x-flag@example.org': '',
  AAA: 'first of all',
};

const EXTENSIONS = [
  'permit-pty',
  'permit-X11-forwarding',
  'permit-agent-forwarding',
  'permit-port-forwarding',
  'permit-user-rc',
  'no-touch-required',
  'zz@example.org',
  'A',
];

/** A fresh key mostly, so that numbers with leading zeros come up. */
function newKey(choices: Choices): KeyObject {
  switch (choices.below(4)) {
    case 0:
      return newSshKey();
    case 1:
      return choices.of(RSA_KEYS);
    default:
      return newEcKey(choices.of(CURVES));
  }
}

function randomInit(choices: Choices): SshCertificateInit {
  const after = choices.below(3) === 0 ? 0 : choices.below(4_000_000_000);
  const principals = choices.some(TEXTS);
  return {
    type: choices.of(['user', 'host']),
    publicKey: encodePublicKey(newKey(choices)),
    serial: choices.u64(),
    keyId: choices.of([...TEXTS, '']),
    principals: principals.length === 0 ? ['one'] : principals,
    validAfter: new Date(after * 1000),
    validBefore: new Date((after + 1 + choices.below(1_000_000_000)) * 1000),
    criticalOptions: Object.fromEntries(choices.some(Object.entries(CRITICAL))),
    extensions: choices.some(EXTENSIONS),
  };
}

const FAMILIES: Readonly<Record<string, string>> = {
  'ssh-ed25519': 'ED25519',
  'ssh-rsa': 'RSA',
  'ecdsa-sha2-nistp256': 'ECDSA',
  'ecdsa-sha2-nistp384': 'ECDSA',
  'ecdsa-sha2-nistp521': 'ECDSA',
};

/** What `ssh-keygen -L` should say of it. */
function listing(certificate: SshCertificate): string {
  const { algorithm, type, keyType, authority } = certificate;
  const [authorityType = ''] = publicKeyLine(authority).split(' ');
  const [of, by] = [FAMILIES[keyType], FAMILIES[authorityType]];
  const signature = authorityType === 'ssh-rsa' ? 'rsa-sha2-512' : authorityType;
  return [
    `Type: ${algorithm} ${type} certificate`,
    `Public key: ${of}-CERT ${fingerprint(certificate.publicKey)}`,
    `Signing CA: ${by} ${fingerprint(authority)} (using ${signature})`,
    `Key ID: "${certificate.keyId}"`,
    `Serial: ${certificate.serial}`,
    `Valid: ${validity(certificate)}`,
    ...section('Principals', certificate.principals),
    ...section('Critical Options', [...certificate.criticalOptions].map(criticalOption)),
    ...section('Extensions', [...certificate.extensions].map(extension)),
  ].join('\n');
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [`${title}: (none)`] : [`${title}:`, ...lines];
}

function validity({ validAfter, validBefore }: SshCertificate): string {
  const [after, before] = [validAfter, validBefore].map((time) => time.toISOString().slice(0, 19));
  return validAfter.getTime() === 0 ? `before ${before}` : `from ${after} to ${before}`;
}

function criticalOption([name, value]: readonly [string, string]): string {
  if (name === 'force-command' || name === 'source-address') return `${name} ${value}`;
  if (name === 'verify-required') return name;
  return unknownOption(name, value);
}

function unknownOption(name: string, value: string): string {
  return value === '' ? `${name} UNKNOWN FLAG OPTION` : `${name} UNKNOWN OPTION: ${hexOf(value)}`;
}

function hexOf(value: string): string {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(Buffer.byteLength(value));
  const data = Buffer.concat([length, Buffer.from(value)]);
  return `${data.toString('hex')} (len ${data.length})`;
}

function extension([name, value]: readonly [string, string]): string {
  const known = name.startsWith('permit-') || name === 'no-touch-required';
  return known ? name : unknownOption(name, value);
}

/** What it says of each certificate of the file, without indentation. */
function listingsOf(file: string): string[] {
  const said = execFileSync('ssh-keygen', ['-L', '-f', file], {
    encoding: 'utf8',
    env: { ...process.env, TZ: 'UTC', LC_ALL: 'C.UTF-8' },
    maxBuffer: 100_000_000,
  });
  const lines = said.split('\n').map((line) => line.trim());
  const listings: string[][] = [];
  for (const line of lines) {
    if (line.startsWith(`${file}:`)) listings.push([]);
    else if (line !== '') listings.at(-1)?.push(line);
  }
  return listings.map((one) => one.join('\n'));
}

describe('ssh-keygen', () => {
  let directory: string;

  before(function () {
    if (!hasProgram('ssh-keygen')) skipWithout(this, 'ssh-keygen');
    directory = mkdtempSync(join(tmpdir(), 'writ-ssh-'));
  });

  after(() => {
    if (directory !== undefined) rmSync(directory, { recursive: true });
  });

  it(`reads in ${COUNT} of our certificates what we do`, function () {
    this.timeout(120_000);
    const choices = new Choices();
    const certificates = Array.from({ length: COUNT }, () => {
      const authority = choices.of([...AUTHORITIES, ...RSA_KEYS]);
      const init = randomInit(choices);
      const certificate = parseSshCertificate(signSshCertificate(init, authority));
      assertSays(certificate, init, authority);
      return certificate;
    });
    const file = join(directory, 'certificates');
    writeFileSync(file, certificates.map(({ blob }) => `${publicKeyLine(blob)}\n`).join(''));
    const listings = listingsOf(file);
    assert.equal(listings.length, COUNT);
    for (const [index, certificate] of certificates.entries()) {
      assert.equal(listings[index], listing(certificate), publicKeyLine(certificate.blob));
    }
  });

  for (const [index, authority] of [...AUTHORITIES, RSA_KEYS[0]].entries()) {
    it(`makes certificates that we read as it does, by authority ${index}`, function () {
      this.timeout(60_000);
      const ca = join(directory, `ca-${index}`);
      writeFileSync(ca, opensshPrivateKey(authority), { mode: 0o600 });
      const keys = writeKeys(join(directory, `of-${index}`));
      for (const args of SIGNING) {
        execFileSync('ssh-keygen', ['-q', '-s', ca, ...args, ...keys.map((key) => `${key}.pub`)], {
          env: { ...process.env, TZ: 'UTC' },
        });
        for (const key of keys) assertRead(`${key}-cert.pub`, key, authority);
      }
    });
  }

  it('makes certificates without an end, or for everyone, that we do not use', () => {
    const ca = join(directory, 'ca-wide');
    writeFileSync(ca, opensshPrivateKey(AUTHORITIES[0]), { mode: 0o600 });
    const [key = ''] = writeKeys(join(directory, 'of-wide'));
    const read = () => parseCertificateLine(readFileSync(`${key}-cert.pub`, 'utf8'));
    execFileSync('ssh-keygen', ['-q', '-s', ca, '-I', 'a', '-n', 'a', `${key}.pub`]);
    assert.throws(read, { code: 'SSH_INVALID', message: /beyond the year 9999/ });
    execFileSync('ssh-keygen', ['-q', '-s', ca, '-I', 'a', '-V', '+1h', `${key}.pub`]);
    assert.deepEqual(parseSshCertificate(read()).principals, []);
  });
});

/** Arguments of `ssh-keygen -s`, for each of a user and of a host. */
const SIGNING: readonly (readonly string[])[] = [
  ['-I', 'spiffe://example.org/web', '-n', 'spiffe://example.org/web', '-V', '+5m'],
  ['-I', 'a b', '-n', 'a,b,c', '-V', '20260102030405:20260102040405', '-z', '18446744073709551615'],
  ['-I', 'x', '-n', 'x', '-V', 'always:20300101', '-O', 'clear', '-O', 'permit-pty'],
  [
    '-I',
    'x',
    '-n',
    'x',
    '-V',
    '+1h',
    '-O',
    'force-command=ls -l',
    '-O',
    'source-address=10.0.0.0/8',
  ],
  [
    '-I',
    'x',
    '-n',
    'x',
    '-V',
    '+1h',
    '-O',
    'critical:z@x=v',
    '-O',
    'critical:a@x',
    '-O',
    'extension:b@x=w',
  ],
  ['-I', 'x', '-n', 'x', '-V', '+1h', '-O', 'verify-required', '-O', 'no-touch-required'],
  ['-h', '-I', 'web-1', '-n', 'web-1,web-1.example.org', '-V', '-1m:+52w'],
];

function writeKeys(prefix: string): string[] {
  const keys = [newSshKey(), ...CURVES.map(newEcKey), RSA_KEYS[0]];
  return keys.map((key, index) => {
    const file = `${prefix}-${index}`;
    writeFileSync(`${file}.pub`, `${publicKeyLine(encodePublicKey(key))}\n`);
    return file;
  });
}

function assertSays(parsed: SshCertificate, init: SshCertificateInit, authority: KeyObject): void {
  assert.deepEqual(rebuiltSshCertificate(parsed), parsed.blob);
  assert.deepEqual(
    {
      type: parsed.type,
      publicKey: parsed.publicKey,
      serial: parsed.serial,
      keyId: parsed.keyId,
      principals: parsed.principals,
      validAfter: parsed.validAfter,
      validBefore: parsed.validBefore,
      criticalOptions: Object.fromEntries(parsed.criticalOptions),
      extensions: [...parsed.extensions.keys()],
      authority: parsed.authority,
    },
    {
      ...init,
      extensions: [...(init.extensions ?? [])].sort(),
      authority: encodePublicKey(authority),
    },
  );
}

function assertRead(file: string, key: string, authority: KeyObject): void {
  const certificate = parseSshCertificate(parseCertificateLine(readFileSync(file, 'utf8')));
  assert.deepEqual(rebuiltSshCertificate(certificate), certificate.blob);
  assert.deepEqual(certificate.publicKey, parsePublicKeyLine(readFileSync(`${key}.pub`, 'utf8')));
  assert.deepEqual(certificate.authority, encodePublicKey(authority));
  assert.deepEqual(listingsOf(file), [listing(certificate)]);
}
