// Behind `npm run up`, `npm test` and `npm run bench`: installs what is missing, builds what is stale,
// then runs the command. Imports node: modules alone, since it runs before anything is installed.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(fileURLToPath(import.meta.url));
const SOURCES = ['proto/gen', 'runtime', 'identity', 'sdk', 'server', 'agent', 'gateway', 'cli', 'certs-dev'];
const BUILT = join(ROOT, 'dist', '.built');
const INSTALLED = join(ROOT, 'node_modules', '.package-lock.json');

const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  fail(`Node ${process.versions.node} is too old: Writ needs 20.19 or newer`);
}

const [command, ...rest] = process.argv.slice(2);
install();
switch (command) {
  case 'up':
    build();
    run([join(ROOT, 'dist/cli/main.js'), 'up', ...rest]);
    break;
  case 'test':
    build();
    run([join(ROOT, 'node_modules/mocha/bin/mocha.js'), ...rest]);
    break;
  case 'bench':
    build();
    run(['--import=tsx', join(ROOT, 'test/bench/main.ts'), ...rest]);
    break;
  default:
    fail('usage: node bootstrap.mjs up|test|bench [ARGUMENT ...]');
}

function install() {
  const lock = statSync(join(ROOT, 'package-lock.json')).mtimeMs;
  if (existsSync(INSTALLED) && statSync(INSTALLED).mtimeMs >= lock) return;
  console.error('installing packages (npm ci) ...');
  const npm = process.env.npm_execpath;
  const [file, first] = npm?.endsWith('.js') ? [process.execPath, [npm]] : ['npm', []];
  const args = [...first, 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'];
  step(file, args, 'npm ci failed');
}

function build() {
  if (existsSync(BUILT) && statSync(BUILT).mtimeMs >= newestSource()) return;
  console.error('building (tsc) ...');
  rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
  const started = new Date();
  step(process.execPath, [join(ROOT, 'node_modules/typescript7/bin/tsc'), '-p', join(ROOT, 'tsconfig.build.json')], 'the build failed');
  writeFileSync(BUILT, started.toISOString());
}

function newestSource() {
  let newest = statSync(join(ROOT, 'tsconfig.build.json')).mtimeMs;
  for (const folder of SOURCES) {
    for (const entry of readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || !entry.name.endsWith('.ts') || entry.name.endsWith('.test.ts')) continue;
      newest = Math.max(newest, statSync(join(entry.parentPath, entry.name)).mtimeMs);
    }
  }
  return newest;
}

function step(file, args, message) {
  const { status } = spawnSync(file, args, { cwd: ROOT, stdio: ['ignore', 2, 2] });
  if (status !== 0) fail(message);
}

/** The command takes this process's place as far as Node can: same terminal, same signals, same status. */
function run(args) {
  const child = spawn(process.execPath, args, {
    cwd: command === 'up' ? process.cwd() : ROOT,
    stdio: 'inherit',
  });
  // A Ctrl-C may reach the child twice: by the terminal and from here. `writ up` takes both as one.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('error', (error) => fail(error.message));
  child.on('exit', (status, signal) => process.exit(signal === null ? (status ?? 1) : 1));
}

function fail(message) {
  console.error(`writ: ${message}`);
  process.exit(1);
}
