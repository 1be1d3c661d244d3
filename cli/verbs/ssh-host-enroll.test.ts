import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodePublicKey, publicKeyLine } from '../../identity/ssh/public-key.ts';
import type { VerbIo } from '../verb.ts';
import { sshHostEnroll } from './ssh-host-enroll.ts';

const KEY = encodePublicKey(generateKeyPairSync('ed25519').publicKey);

describe('writ ssh host enroll', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'writ-enroll-'));
    await writeFile(join(folder, 'host.pub'), `${publicKeyLine(KEY)}\n`);
  });
  afterEach(() => rm(folder, { recursive: true }));

  const enroll = async (principals: Record<string, { principals: string[] }>) => {
    const service = {
      listSshAuthorities: async () => ({ user: [KEY], host: [KEY], gateway: [KEY] }),
      signHostCertificate: async () => ({ certificate: KEY, principals }),
    };
    const io = {
      signal: AbortSignal.timeout(1000),
      admin: () => service,
      out: () => undefined,
      err: () => undefined,
    } as unknown as VerbIo;
    const flags = {
      'host-key': join(folder, 'host.pub'),
      ttl: '90d',
      out: join(folder, 'a', 'out'),
    };
    await sshHostEnroll.run(flags, io, ['web-1']);
  };

  it('writes the principals of each account, and shuts its own keys', async () => {
    await enroll({
      deploy: { principals: ['web-1/deploy'] },
      root: { principals: ['web-1/admin'] },
    });
    const read = (name: string) => readFile(join(folder, 'a', 'out', name), 'utf8');
    assert.equal(await read('principals/deploy'), 'web-1/deploy\n');
    assert.equal(await read('principals/root'), 'web-1/admin\n');
    assert.match(await read('sshd_config'), /^Match User deploy,root$/m);
    assert.equal(await read('gateway_ca.pub'), `${publicKeyLine(KEY, 'writ gateway')}\n`);
  });

  for (const account of [
    '../../../stolen',
    'a/b',
    '.',
    '..',
    '',
    'a\nPermitRootLogin yes',
    '*',
    'A',
  ])
    it(`writes nothing for an account ${JSON.stringify(account)} of a server that was taken over`, async () => {
      const principals = { deploy: { principals: ['x'] }, [account]: { principals: ['x'] } };
      await assert.rejects(enroll(principals), { code: 'PROTOCOL_VIOLATION' });
      assert.deepEqual(await readdir(folder), ['host.pub']);
    });
});
