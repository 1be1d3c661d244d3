import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodePublicKey } from '../identity/ssh/public-key.ts';
import { hasProgram, skipWithout } from '../test/fixtures/programs.ts';
import { knownHostsText, type SshAccess, writeSshConfig } from './ssh-config.ts';

const AUTHORITY = encodePublicKey(generateKeyPairSync('ed25519').publicKey);
const GATEWAY = { name: 'gw-1', hosts: ['gw.example.org', '192.0.2.7'], port: 2222 };
const ACCESS: SshAccess = {
  targets: [
    { backend: 'web-1', logins: ['deploy', 'ops'], gateways: [GATEWAY] },
    { backend: 'unserved', logins: ['deploy'], gateways: [] },
  ],
  hostAuthorities: [AUTHORITY],
  agentSocket: '/run/writ/100%/ssh agent.sock',
};

describe('writeSshConfig', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'writ-ssh-config-'));
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  const settingsOf = (file: string, host: string): ReadonlyMap<string, string> => {
    const { stdout, status, stderr } = spawnSync('ssh', ['-G', '-F', file, host], {
      encoding: 'utf8',
    });
    assert.equal(status, 0, stderr);
    return new Map(
      stdout
        .trim()
        .split('\n')
        .map((line) => {
          const [name = '', ...rest] = line.split(' ');
          return [name, rest.join(' ')];
        }),
    );
  };

  it('says what ssh takes for a target: its jump, its login, our keys and hosts alone', async function () {
    if (!hasProgram('ssh')) skipWithout(this, 'ssh');
    const file = await writeSshConfig(folder, ACCESS);
    const target = settingsOf(file, 'web-1');
    assert.equal(target.get('proxyjump'), 'writ-gateway_gw-1');
    assert.equal(target.get('user'), 'deploy');
    assert.equal(target.get('stricthostkeychecking'), 'true');
    assert.equal(target.get('userknownhostsfile'), join(folder, 'known_hosts'));
    assert.equal(target.get('identityagent'), '/run/writ/100%/ssh agent.sock');
    assert.equal(target.get('forwardagent'), 'no');
    const gateway = settingsOf(file, 'writ-gateway_gw-1');
    assert.equal(gateway.get('hostname'), 'gw.example.org');
    assert.equal(gateway.get('port'), '2222');
    assert.equal(gateway.get('hostkeyalias'), 'gw.example.org');
    assert.equal(gateway.get('proxyjump'), undefined);
    assert.equal(settingsOf(file, 'elsewhere').get('stricthostkeychecking'), 'ask');
    assert.equal(settingsOf(file, 'unserved').get('proxyjump'), undefined);
  });

  it('jumps through no target, whatever the targets are called', async function () {
    if (!hasProgram('ssh')) skipWithout(this, 'ssh');
    const backend = 'writ-gateway-gw-1';
    const targets = [{ backend, logins: ['deploy'], gateways: [GATEWAY] }];
    const file = await writeSshConfig(folder, { ...ACCESS, targets });
    const jump = settingsOf(file, backend).get('proxyjump') ?? '';
    assert.notEqual(jump, backend);
    assert.equal(settingsOf(file, jump).get('proxyjump'), undefined);
  });

  it('writes nothing where a path would end its line', async () => {
    for (const agentSocket of ['/run/a"\nProxyCommand x', '/run/a\nProxyCommand x', '/run/"']) {
      await assert.rejects(writeSshConfig(folder, { ...ACCESS, agentSocket }), { code: 'USAGE' });
    }
    const bad = writeSshConfig(join(folder, 'a"b'), ACCESS);
    await assert.rejects(bad, { code: 'USAGE' });
    assert.deepEqual(await readdir(folder), []);
  });

  it('trusts the host authority for these names and no other', () => {
    const [line = ''] = knownHostsText(ACCESS).split('\n');
    const [marker, names = '', type, key] = line.split(' ');
    assert.equal(marker, '@cert-authority');
    assert.deepEqual(names.split(','), [
      'web-1',
      'unserved',
      'gw.example.org',
      '[gw.example.org]:2222',
      '192.0.2.7',
      '[192.0.2.7]:2222',
    ]);
    assert.equal(`${type} ${key}`, `ssh-ed25519 ${AUTHORITY.toString('base64')}`);
  });

  it('writes files that reach nothing where nothing is granted', async () => {
    const file = await writeSshConfig(folder, { ...ACCESS, targets: [] });
    assert.doesNotMatch(await readFile(file, 'utf8'), /^Host/m);
    assert.equal(await readFile(join(folder, 'known_hosts'), 'utf8'), '');
  });
});
