import assert from 'node:assert/strict';
import * as v from 'valibot';
import {
  ChannelBinding,
  type PostgresBackend,
} from '../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { postgresBackend } from './document-resources.ts';
import { postgresBackendSchema } from './document-schemas.ts';

const TLS = { ca_file: '/etc/writ/db-ca.pem', server_name: 'db.internal' };
const CERTIFICATE = {
  client_certificate_file: '/etc/writ/db.pem',
  client_key_file: '/etc/writ/db.key',
};
const VAULT = {
  address: 'https://vault.example.org:8200',
  ca_file: '/etc/writ/vault-ca.pem',
  auth: { jwt: { role: 'writ-gateway' } },
};
const KV = { ...VAULT, path: 'db/shop' };
const LOOPBACK = { ...KV, ca_file: undefined };

type Document = Readonly<Record<string, unknown>>;

function read(login: Document, more: Document = {}) {
  const document = JSON.parse(
    JSON.stringify({
      kind: 'Backend',
      name: 'shop',
      type: 'postgres',
      environment: 'production',
      postgres: {
        ...{ host: 'db.internal', database: 'shop', tls: TLS },
        login: { user: 'writ_gateway', ...login },
        ...more,
      },
    }),
  );
  return v.safeParse(postgresBackendSchema, document);
}

function declared(login: Document, more?: Document): PostgresBackend {
  const result = read(login, more);
  assert.ok(result.success, JSON.stringify(result.issues?.map(({ message }) => message)));
  const { body } = postgresBackend(result.output);
  assert.ok(body.case === 'backend' && body.value.type.case === 'postgres');
  return body.value.type.value;
}

function problem(login: Document, more?: Document): string {
  const result = read(login, more);
  assert.ok(!result.success, 'it is refused');
  const [issue] = result.issues;
  return `${v.getDotPath(issue) ?? ''}: ${issue.message}`;
}

const sourceOf = (login: Document) => declared(login).loginCredential?.source;

describe("a PostgreSQL backend document's login", () => {
  it('is a password from a file, a variable, or a secret of the server', () => {
    const file = declared({ password_file: '/etc/writ/p' });
    assert.equal(file.loginPasswordFile, '/etc/writ/p');
    assert.equal(file.loginCredential, undefined);
    assert.deepEqual(sourceOf({ password_env: 'SHOP_PASSWORD' }), {
      case: 'environment',
      value: 'SHOP_PASSWORD',
    });
    assert.deepEqual(sourceOf({ password_secret: 'shop' }), { case: 'secret', value: 'shop' });
    assert.match(problem({ password_env: 'A B' }), /password_env: the name of an environment/);
  });

  it('is one of the sources alone', () => {
    const one = /^postgres.login: one of password_file, password_env, password_secret/;
    assert.match(problem({}), one);
    assert.match(problem({ password_env: 'A', password_file: '/p' }), one);
    assert.match(problem({ vault_kv: KV, password_secret: 'shop' }), one);
  });

  it('may be a client certificate alone, with its key', () => {
    const backend = declared({}, { tls: { ...TLS, ...CERTIFICATE } });
    assert.equal(backend.tls?.clientCertificateFile, CERTIFICATE.client_certificate_file);
    assert.equal(backend.tls?.clientKeyFile, CERTIFICATE.client_key_file);
    assert.equal(backend.loginPasswordFile, '');
    const { client_key_file: _, ...half } = CERTIFICATE;
    assert.match(problem({}, { tls: { ...TLS, ...half } }), /tls.client_key_file: a client_key/);
  });

  it('is bound to the TLS connection where the document requires it', () => {
    const tls = (binding: string) => ({ tls: { ...TLS, channel_binding: binding } });
    const file = { password_file: '/p' };
    assert.equal(declared(file, tls('require')).tls?.channelBinding, ChannelBinding.REQUIRE);
    assert.equal(declared(file, tls('prefer')).tls?.channelBinding, ChannelBinding.UNSPECIFIED);
    assert.equal(declared(file).tls?.channelBinding, ChannelBinding.UNSPECIFIED);
    assert.match(problem(file, tls('disable')), /prefer or require/);
  });

  it('is a field of a secret in Vault, with defaults for what Vault calls its own defaults', () => {
    const source = sourceOf({ vault_kv: KV });
    assert.ok(source?.case === 'vaultKv');
    const { mount, path, field, server } = source.value;
    assert.deepEqual([mount, path, field], ['secret', 'db/shop', 'password']);
    assert.equal(server?.address, 'https://vault.example.org:8200');
    assert.equal(server?.caFile, '/etc/writ/vault-ca.pem');
    assert.equal(server?.namespace, '');
    assert.ok(server?.auth.case === 'jwt');
    assert.deepEqual(
      [server.auth.value.mount, server.auth.value.role, server.auth.value.audience],
      ['jwt', 'writ-gateway', 'vault'],
    );
  });

  it('is an account that Vault makes, or one that it rotates', () => {
    const auth = { approle: { role_id: 'a-b-c', secret_id_file: '/etc/writ/secret-id' } };
    const dynamic = sourceOf({
      vault_database: { ...VAULT, namespace: 'teams/a', auth, role: 'w' },
    });
    assert.ok(dynamic?.case === 'vaultDatabase');
    assert.deepEqual([dynamic.value.role, dynamic.value.static], ['w', false]);
    assert.equal(dynamic.value.mount, 'database');
    assert.equal(dynamic.value.server?.namespace, 'teams/a');
    assert.ok(dynamic.value.server?.auth.case === 'appRole');
    assert.equal(dynamic.value.server.auth.value.secretIdFile, '/etc/writ/secret-id');
    const rotated = sourceOf({
      vault_database: { ...VAULT, auth: { token_file: '/run/vault/token' }, static_role: 'w' },
    });
    assert.ok(rotated?.case === 'vaultDatabase' && rotated.value.static);
    assert.deepEqual(rotated.value.server?.auth, { case: 'tokenFile', value: '/run/vault/token' });
  });

  const refused: [what: string, login: Document, message: RegExp][] = [
    ['http to another host', { ...LOOPBACK, address: 'http://vault:8200' }, /address: https/],
    ['an address with a path', { ...KV, address: 'https://vault:8200/v1' }, /address: https/],
    ['an address with a user', { ...KV, address: 'https://a:b@vault:8200' }, /address: https/],
    ['no address', { ...KV, address: 'vault:8200' }, /address: https/],
    ['https without an authority', { ...KV, ca_file: undefined }, /ca_file: a ca_file where/],
    ['http with one', { ...KV, address: 'http://127.0.0.1:8200' }, /ca_file: a ca_file where/],
    ['no way to log in', { ...KV, auth: {} }, /auth: one of approle, token_file and jwt/],
    [
      'two ways to log in',
      { ...KV, auth: { token_file: '/t', jwt: { role: 'r' } } },
      /auth: one of approle, token_file and jwt/,
    ],
    ['a path out of the engine', { ...KV, path: '../sys/x' }, /path: a path such as/],
    ['a path with nothing in it', { ...KV, path: 'db//shop' }, /path: a path such as/],
    ['a mount out of the API', { ...KV, mount: '/v1' }, /mount: a path such as/],
    ['a namespace that is no header', { ...KV, namespace: 'a\r\nb: c' }, /namespace: a path/],
  ];
  for (const [what, value, message] of refused) {
    it(`refuses ${what}`, () => assert.match(problem({ vault_kv: value }), message));
  }

  it('takes http for a loopback host, and ports that the address may leave out', () => {
    for (const address of [
      'http://127.0.0.1:8200',
      'http://localhost:8200',
      'http://[::1]:8200',
      'http://127.0.0.1:80',
    ]) {
      const source = sourceOf({ vault_kv: { ...LOOPBACK, address } });
      assert.ok(source?.case === 'vaultKv', address);
    }
    assert.ok(sourceOf({ vault_kv: { ...KV, address: 'https://vault:443/' } }));
  });

  it('names a role or a static role', () => {
    for (const value of [VAULT, { ...VAULT, role: 'a', static_role: 'b' }]) {
      assert.match(problem({ vault_database: value }), /either a role or a static_role/);
    }
  });

  it('is none that ends where sessions share it', () => {
    const more = {
      enforce: 'gateway',
      exception: { owner: 'a', reason: 'b', expires_at: '2099-12-31T00:00:00Z' },
    };
    const login = (role: Document) => ({ vault_database: { ...VAULT, ...role } });
    assert.match(problem(login({ role: 'a' }), more), /a static_role where enforce is gateway/);
    declared(login({ static_role: 'a' }), more);
  });
});
