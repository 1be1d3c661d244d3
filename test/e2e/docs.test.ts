import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { hasProgram, skipWithout } from '../fixtures/programs.ts';
import { asSuperuser } from '../fixtures/shop-catalog.ts';
import { type RunningUp, runProgram, startUp } from '../fixtures/writ-up.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');

interface Page {
  readonly file: string;
  readonly program: string;
  /** As the page has it, and as this run has it. */
  port(up: RunningUp): readonly [string, string];
  /** What its commands print. */
  readonly pieces: readonly string[];
  /** Makes what the page takes for granted, and what its commands find in their environment. */
  prepare?(up: RunningUp, folder: string): Promise<NodeJS.ProcessEnv>;
}

const PAGES: readonly Page[] = [
  {
    file: 'docs/postgres.md',
    program: 'psql',
    port: (up) => ['port=6432', `port=${portOf(up.json.gateway.postgres)}`],
    pieces: ['ana@example.org', 'refused by the gateway', 'record verified', 'unbroken'],
  },
  {
    file: 'docs/ssh.md',
    program: '/usr/sbin/sshd',
    port: (up) => [':2222', `:${portOf(up.json.gateway.ssh)}`],
    pieces: [
      'logged in as',
      'ssh-ed25519-cert-v01@openssh.com AAAA',
      'spiffe://example.org/ci/deploy',
      'record verified',
      'TrustedUserCAKeys',
      'web-1/deploy',
      'unbroken',
    ],
  },
];

const SERVER: Page = {
  file: 'docs/server.md',
  program: 'openssl',
  port: () => ['', ''],
  pieces: ['tainted', 'server.backup', 'unlocked', 'spiffe://example.org/writ/gateway/demo'],
};

const ATTESTORS: Page = {
  file: 'docs/attestors.md',
  program: 'openssl',
  port: () => ['', ''],
  pieces: ['x509pop:subject:cn:web-1', '/spire/agent/x509pop/'],
};

const OWN_DATABASE: Page = {
  file: 'docs/own-database.md',
  program: 'psql',
  port: (up) => ['port=6432', `port=${portOf(up.json.gateway.postgres)}`],
  prepare: ownDatabase,
  pieces: [
    'public.people.ssn (text): national-id, by its name and values, like 000-00-0000',
    'Nothing has been applied',
    'is declared and set up',
    '0 critical',
    ' 0 leaks; values of 2 columns compared',
    'backend mine, signed',
    '*******8726',
  ],
};

const CREDENTIALS: Page = {
  file: 'docs/credentials.md',
  program: 'psql',
  port: () => ['', ''],
  prepare: shopInVault,
  pieces: [
    'step:       done',
    'shop-login  2        current',

    'Backend shop-by-file created (dry run)',
    'Backend shop-by-variable created (dry run)',
    'Backend shop-by-kv created (dry run)',
    'Backend shop-by-dynamic-role created (dry run)',
    'Backend shop-by-static-role created (dry run)',
    'Backend shop-by-certificate created (dry run)',
  ],
};

/** The demo's shop, with its login in the vault. */
async function shopInVault(up: RunningUp, folder: string): Promise<NodeJS.ProcessEnv> {
  const { demo } = up.json;
  const document = `kind: Backend
name: shop
type: postgres
environment: demo
postgres:
  host: 127.0.0.1
  port: ${new URL(demo.database_url).port}
  database: shop
  login: { user: writ_gateway, password_secret: shop-login, rotate_every: 30d }
  tls: { ca_file: ${join(up.state, 'postgres-ca.pem')}, server_name: localhost }
`;
  await writeFile(join(folder, 'shop.yaml'), document);
  return { DATABASE_URL: demo.database_url };
}

/** Of one's own beside the demo's, in the same cluster: so the gateway's login is there. */
async function ownDatabase(up: RunningUp): Promise<NodeJS.ProcessEnv> {
  const url = new URL(up.json.demo.database_url);
  await asSuperuser(up, 'create database mine');
  url.pathname = '/mine';
  url.hostname = 'localhost';
  const client = new pg.Client({ connectionString: url.href });
  await client.connect();
  await client.query(
    "create table people (id int primary key, ssn text, email text); insert into people values (1, '536-22-8726', 'ada@example.org')",
  );
  await client.end();
  url.searchParams.set('sslmode', 'verify-full');
  url.searchParams.set('sslrootcert', join(up.state, 'postgres-ca.pem'));
  return { DATABASE_URL: url.href };
}

for (const page of [...PAGES, SERVER, ATTESTORS, CREDENTIALS, OWN_DATABASE]) {
  const { file, program, port, pieces } = page;
  describe(file, () => {
    it('works as it is written, command by command', async function () {
      if (!hasProgram(program)) skipWithout(this, program);
      await using up = await startUp();
      const folder = await mkdtemp(join(tmpdir(), 'writ-docs-'));
      const text = await readFile(join(ROOT, file), 'utf8');
      const blocks = [...text.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? '');
      assert.ok(blocks.length >= 3);
      const script = blocks
        .join('\n')
        .replaceAll(...port(up))
        .replaceAll('/etc/writ/writ_gateway.password', join(up.state, 'gateway/shop.password'));
      await mkdir(join(folder, 'bin'));
      const shim = join(folder, 'bin/writ');
      await writeFile(shim, `#!/bin/sh\nexec node ${join(ROOT, 'dist/cli/main.js')} "$@"\n`);
      await chmod(shim, 0o755);
      const env = {
        ...process.env,
        ...(await page.prepare?.(up, folder)),
        PATH: `${join(folder, 'bin')}:${process.env.PATH}`,
        WRIT_ADMIN_SOCKET: up.json.server.admin_socket,
        SPIFFE_ENDPOINT_SOCKET: up.json.agent.workload_api,
      };
      const outcome = await runProgram('bash', ['-euo', 'pipefail', '-c', script], {
        cwd: folder,
        env,
      });
      await rm(folder, { recursive: true, force: true });
      const all = outcome.stdout + outcome.stderr;
      assert.equal(outcome.status, 0, all);
      for (const piece of pieces) assert.ok(all.includes(piece), `${piece} in\n${all}`);
      assert.doesNotMatch(all, /\b[59][0-9]\d-\d\d-\d{4}\b/);
    }).timeout(120_000);
  });
}

function portOf(address: string): string {
  return address.split(':')[1] ?? '';
}
