import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create } from '@bufbuild/protobuf';
import { BackendTlsSchema } from '../../../../../proto/gen/writ/resource/v1/resource_pb.ts';
import { onEachPostgres } from '../../../../../test/fixtures/each-postgres.ts';
import { startPostgres, type TestPostgres } from '../../../../../test/fixtures/postgres.ts';
import {
  type IssuedCertificate,
  type TlsAuthority,
  tlsAuthority,
} from '../../../../../test/fixtures/tls-authority.ts';
import { certificateLogin, environmentLogin } from '../../../../credentials/local-login.ts';
import type { LoginSource } from '../../../../credentials/login-source.ts';
import { type ControlAddress, ControlConnections } from './control.ts';
import { logIn } from './login.ts';

const PASSWORD = 'a password for one login';
/** As docs/credentials.md tells. */
const HBA = [
  'hostssl all edge 127.0.0.1/32 cert',
  'hostssl all writ_test 127.0.0.1/32 scram-sha-256 clientcert=verify-ca',
];
const SERIAL = 'select client_serial::text as serial from pg_stat_ssl where pid = pg_backend_pid()';

onEachPostgres('a login by client certificate', (_, version) => {
  let authority: TlsAuthority;
  let server: TestPostgres;
  let folder: string;
  let certificateFile: string;
  let keyFile: string;
  before(async () => {
    authority = await tlsAuthority();
    const tls = await authority.issue('localhost', { isServer: true });
    server = await startPostgres({ version, tls: { ...tls, ca: authority.ca }, hba: HBA });
    await server.exec(`create role edge login; create role other login;
      create role writ_test login password '${PASSWORD}'`);
    folder = await mkdtemp(join(tmpdir(), 'writ-test-client-'));
  });
  after(async () => {
    await server?.[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });
  beforeEach(async () => {
    // Names of their own, so that no test has the last good pair of another one.
    const files = await mkdtemp(join(folder, 'files-'));
    certificateFile = join(files, 'client.pem');
    keyFile = join(files, 'client.key');
  });

  async function issue(commonName = 'edge'): Promise<IssuedCertificate> {
    const issued = await authority.issue(commonName);
    await writeFile(certificateFile, issued.certificate);
    await writeFile(keyFile, issued.key);
    return issued;
  }

  const address = (withCertificate = true): ControlAddress => ({
    ...{ host: '127.0.0.1', port: server.port, database: 'postgres' },
    tls: create(BackendTlsSchema, {
      caFile: server.caFile,
      serverName: 'localhost',
      ...(withCertificate && {
        clientCertificateFile: certificateFile,
        clientKeyFile: keyFile,
      }),
    }),
  });

  async function serial(at = address()): Promise<unknown> {
    await using control = new ControlConnections(at, certificateLogin('edge'));
    return (await control.query(SERIAL))[0]?.serial;
  }

  function serialOf({ certificate }: IssuedCertificate): string {
    return String(BigInt(`0x${new X509Certificate(certificate).serialNumber}`));
  }

  async function refused(pattern: RegExp, at: ControlAddress, source: LoginSource): Promise<void> {
    await using control = new ControlConnections(at, source);
    await assert.rejects(control.query('select 1'), (error: Error) => {
      assert.ok(error.cause instanceof Error);
      assert.match(`${error.cause} ${error.cause.cause}`, pattern);
      return true;
    });
  }

  it('needs no password, and takes a renewed certificate at the next connection', async () => {
    const first = await issue();
    assert.equal(await serial(), serialOf(first));
    const second = await issue();
    assert.equal(await serial(), serialOf(second));
  });

  it('goes on with the last pair while certificate and key do not fit each other', async () => {
    const first = await issue();
    assert.equal(await serial(), serialOf(first));
    const second = await authority.issue('edge');
    await writeFile(certificateFile, second.certificate);
    assert.equal(await serial(), serialOf(first));
    await writeFile(keyFile, second.key);
    assert.equal(await serial(), serialOf(second));
  });

  it('fails without a certificate, with one of another name or authority, and without its key', async () => {
    const source = certificateLogin('edge');
    await refused(/28000 .*client certificate/, address(false), source);
    await issue('other');
    await refused(/28000 certificate authentication failed/, address(), source);
    const strange = await (await tlsAuthority()).issue('edge');
    await writeFile(certificateFile, strange.certificate);
    await writeFile(keyFile, strange.key);
    await refused(/unknown ca|closed the connection/i, address(), source);
    await rm(keyFile);
    await refused(/ENOENT/, address(), source);
    await writeFile(keyFile, 'no key');
    await rm(certificateFile);
    await refused(/ENOENT/, address(), source);
  });

  it('fails where the server asks for a password that there is none of, and the other way round', async () => {
    await issue('other');
    await refused(/the login needs a password/, address(), certificateLogin('other'));
    await issue();
    const source = environmentLogin('edge', 'SHOP', { SHOP: PASSWORD });
    await refused(/must ask for scram-sha-256/, address(), source);
  });

  it("is shown beside a session role's password, where the server asks for both", async () => {
    await issue('a gateway');
    const enter = (at: ControlAddress) =>
      logIn({
        ...{ address: at, database: 'postgres', role: 'writ_test', password: PASSWORD },
        ...{ settings: new Map(), signal: AbortSignal.timeout(20_000) },
      });
    const { socket } = await enter(address());
    socket.destroy();
    await assert.rejects(enter(address(false)), { code: 'BACKEND_FAILED' });
  });
});
