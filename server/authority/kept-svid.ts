import { createPrivateKey } from 'node:crypto';
import { open } from 'node:fs/promises';
import * as v from 'valibot';
import type { Bundle } from '../../identity/bundle.ts';
import { verifySvid } from '../../identity/verify.ts';
import { decodePem } from '../../identity/x509/pem.ts';
import { svidPem, type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import { writeAtomic } from '../../runtime/atomic-file.ts';

const MAXIMUM_FILE_BYTES = 64 * 1024;
const FILE = v.strictObject({ certificates: v.string(), key: v.string() });

/** A file, 0600, with an SVID that outlives a restart. */
export class KeptSvid {
  readonly #file: string;

  /** @param file in a directory of its owner alone */
  constructor(file: string) {
    this.#file = file;
  }

  /** The SVID, if it is there, can be read, and verifies: without it a new one is issued, so that is all. */
  async load(bundle: Bundle, now: Date): Promise<X509Svid | undefined> {
    try {
      await using file = await open(this.#file, 'r');
      const { size, mode } = await file.stat();
      if (size > MAXIMUM_FILE_BYTES || (mode & 0o077) !== 0) return undefined;
      const { certificates, key } = v.parse(FILE, JSON.parse(await file.readFile('utf8')));
      const svid = x509Svid(decodePem('CERTIFICATE', certificates), createPrivateKey(key));
      verifySvid(svid.chain, (name) => (name === bundle.trustDomain ? bundle : undefined), now);
      return svid;
    } catch {
      return undefined;
    }
  }

  async save(svid: X509Svid): Promise<void> {
    await writeAtomic(this.#file, Buffer.from(JSON.stringify(svidPem(svid))), 0o600);
  }
}
