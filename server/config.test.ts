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

  it('reads who is an admin, how open the admin socket is, and how long credentials live', async () => {
    const config = await load(
      `${MINIMUM}admin_ids: [spiffe://example.org/ops]
admin_socket: limited
ttl_policy:
  - { x509_svid_max: 1h }
  - { environment: prod, kind: ci, x509_svid_max: 5m, jwt_svid_max: 1m, ssh_certificate_max: 90s }
`,
    );
    assert.deepEqual(config.admin_ids, ['spiffe://example.org/ops']);
    assert.equal(config.admin_socket, 'limited');
    assert.deepEqual(config.ttl_policy, [
      { x509_svid_max: 3600 },
      {
        ...{ environment: 'prod', kind: 'ci' },
        ...{ x509_svid_max: 300, jwt_svid_max: 60, ssh_certificate_max: 90 },
      },
    ]);
  });

  it('reads what new authorities are to be, and where their keys are', async () => {
    const { ca, jwt, key_manager } = await load(MINIMUM);
    assert.deepEqual(
      { ca, jwt, key_manager },
      {
        ca: { ttl: 86_400, key_type: 'ec-p256', ssh_ttl: 315_360_000 },
        jwt: { key_type: 'ec-p256' },
        key_manager: { disk: {} },
      },
    );
    const told = await load(
      `${MINIMUM}ca: { ttl: 7d, key_type: rsa-4096, ssh_ttl: 365d }
jwt: { key_type: ec-p384, issuer: 'https://oidc.example.org' }
key_manager: { memory: {} }
`,
    );
    assert.deepEqual(told.ca, { ttl: 604_800, key_type: 'rsa-4096', ssh_ttl: 31_536_000 });
    assert.deepEqual(told.jwt, { key_type: 'ec-p384', issuer: 'https://oidc.example.org' });
    assert.deepEqual(told.key_manager, { memory: {} });
  });

  const wrong: [string, string, RegExp][] = [
    ['authorities of a moment', `${MINIMUM}ca: {ttl: 9s}\n`, /:5: ca.ttl: .*at least 10s/],
    ['a kind of key that none signs with', `${MINIMUM}ca: {key_type: ed25519}\n`, /ca.key_type/],
    ['an issuer without TLS', `${MINIMUM}jwt: {issuer: 'http://a'}\n`, /jwt.issuer: .*https URL/],
    [
      'two key managers',
      `${MINIMUM}key_manager: {disk: {}, memory: {}}\n`,
      /key_manager: expected disk: {} or memory: {}/,
    ],
    [
      'an admin that is no workload',
      `${MINIMUM}admin_ids: [spiffe://example.org/spire/server]\n`,
      /:5: admin_ids.0: expected the SPIFFE ID of a workload/,
    ],
    ['a mode of the admin socket that is none', `${MINIMUM}admin_socket: closed\n`, /admin_socket/],
    [
      'a TTL rule that bounds nothing',
      `${MINIMUM}ttl_policy: [{environment: prod}]\n`,
      /ttl_policy.0: expected a rule with x509_svid_max/,
    ],
    [
      'TTL rules that say different things of one identity',
      `${MINIMUM}ttl_policy:\n  - {environment: prod, jwt_svid_max: 1m}\n  - {kind: ci, jwt_svid_max: 2m}\n`,
      /:5: ttl_policy: expected rules of which one holds .*environment prod and kind ci/,
    ],
    [
      'x509pop without authorities',
      `${MINIMUM}node_attestors: {x509pop: {}}\n`,
      /:5: node_attestors.x509pop: expected either ca_bundle_files or svid_prefix/,
    ],
    [
      'x509pop with two kinds of authorities',
      `${MINIMUM}node_attestors: {x509pop: {ca_bundle_files: [/a], svid_prefix: /b}}\n`,
      /node_attestors.x509pop: expected either/,
    ],
    [
      'an exchange of SVIDs that are not of workloads',
      `${MINIMUM}node_attestors: {x509pop: {svid_prefix: /spire/agent}}\n`,
      /svid_prefix: expected not below \/spire or \/writ/,
    ],
    ['an answer to clones that is none', `${MINIMUM}on_clone: ignore\n`, /:5: on_clone: /],
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
