import { Fault } from '../runtime/fault.ts';
import { type Flags, textFlag } from './verb.ts';

/**
 * The database that a verb works on. A password on the command line is seen by every process of the
 * machine.
 * @param verb for the message
 * @throws Fault USAGE
 */
export function databaseUrl(flags: Flags, verb: string): string {
  const flag = textFlag(flags, 'url');
  const url = flag ?? process.env.DATABASE_URL;
  if (url === undefined || url === '') {
    throw new Fault('USAGE', `${verb}: name the database with --url or DATABASE_URL`);
  }
  if (!/^postgres(ql)?:\/\//.test(url)) {
    throw new Fault('USAGE', `${verb}: the URL of a database starts with postgresql://`);
  }
  if (flag !== undefined && /^[a-z]+:\/\/[^/@]*:[^/@]+@/.test(flag)) {
    throw new Fault('USAGE', '--url holds a password: set PGPASSWORD or DATABASE_URL instead');
  }
  if (flag !== undefined && /[?&]password=/i.test(flag)) {
    throw new Fault('USAGE', '--url holds a password: set PGPASSWORD or DATABASE_URL instead');
  }
  return url;
}
