import * as v from 'valibot';
import { parseTrustDomain, type TrustDomain } from './spiffe-id.ts';

/** A trust domain's name as a value of a configuration file. */
export const trustDomainValue = v.pipe(
  v.string(),
  v.rawTransform<string, TrustDomain>(({ dataset, addIssue, NEVER }) => {
    try {
      return parseTrustDomain(dataset.value);
    } catch {
      addIssue({ message: 'a trust domain name, such as example.org' });
      return NEVER;
    }
  }),
);
