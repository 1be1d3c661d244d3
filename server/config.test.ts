import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDir } from '../test/fixtures/running-server.ts';
import { loadServerConfig } from './main.ts';

const MINIMUM = `trust_domain: example.org
state_dir: /var/lib/writ/server
listen: 127.0.0.1:8081
health: 127.0.0.1:8091
`;

describe('loadServerConfig', () => {
  const load = (text: string) => {
    const dir = temporaryDir();
    const file = join(dir.path, 'server.yaml');
    writeFileSync(file, text);
    return loadServerConfig(file).finally(() => dir[Symbol.dispose]());
  };

  it('fills in what a short file leaves out', async () => {
    const config = await load(MINIMUM);
    assert.deepEqual(config.ttl, {
      ...{ x509_svid: 3600, agent_svid: 3600, jwt_svid: 300, session_maximum: 28_800 },
      ssh_certificate: 300,
    });
    assert.deepEqual(
      [config.log.level, config.registration, config.node_attestors],
      ['info', {}, { join_token: {} }],
    );
  });

  const wrong: [string, string, RegExp][] = [
    ['an unknown key', `${MINIMUM}ports: 1\n`, /server.yaml:5: ports: expected no such key/],
    [
      'an unknown key further in',
      `${MINIMUM}ttl:\n  x509: 1h\n`,
      /:6: ttl.x509: expected no such key/,
    ],
    [
      'an upper-case trust domain',
      MINIMUM.replace('example', 'Example'),
      /:1: trust_domain: expected a trust domain name/,
    ],
    [
      'a relative state directory',
      MINIMUM.replace('/var', 'var'),
      /:2: state_dir: expected an absolute path/,
    ],
    [
      'defaults without an owner',
      `${MINIMUM}registration:\n  defaults: {purpose: a, environment: b, kind: ci, expires_in: 1d}\n`,
      /:6: registration.defaults.owner: expected this key/,
    ],
    [
      'a kind that is none',
      `${MINIMUM}registration:\n  defaults: {owner: o, purpose: a, environment: b, kind: x, expires_in: 1d}\n`,
      /registration.defaults.kind/,
    ],
    ['a lifetime that is none', `${MINIMUM}ttl: {x509_svid: 10}\n`, /:5: ttl.x509_svid/],
    [
      'SSH certificates that live for longer than a day',
      `${MINIMUM}ttl: {ssh_certificate: 25h}\n`,
      /:5: ttl.ssh_certificate: expected a duration up to 1d/,
    ],
  ];
  for (const [what, text, message] of wrong) {
    it(`refuses ${what}, by line and path`, async () => {
      await assert.rejects(load(text), { code: 'CONFIG_INVALID', message });
    });
  }
});
