// Package apikey holds the API keys of the doors: who may come in, for which tenant, to which tasks, how often;
// and the tokens that a key's holder hands to a browser.
//
// # Keys
//
// A secret is shown once, when it is made, and is 59 characters long:
//
//	sk_<id>_<random>     id: 12 of [a-z2-7], random; random: 32 random bytes in base64url without padding
//
// The bucket llm_keys has a record key.<id> for each key, in JSON: what [Key] has, "v" (1) and "sha256", the SHA-256 of
// the whole secret's text in hexadecimal. A secret of 256 random bits needs no slow hash: there is nothing to guess.
// A key changes once in its life, when it is revoked; the record stays, so that its id keeps its meaning.
//
//	           Create               Revoke
//	(nothing) ────────▶ in force ────────────▶ revoked
//
// # Tokens
//
// A browser's EventSource and WebSocket send no header of their own, so the address carries a token: for one job or one
// session, of one tenant, until a time, on behalf of the key that it was asked with. It is three parts of [A-Za-z0-9_-]:
//
//	v1.<payload>.<mac>
//
//	payload   base64url without padding of five lines, joined by one line feed each:
//	            job | session
//	            the id of the job, or the session
//	            the tenant
//	            the id of the key
//	            the end: seconds since 1970 in decimal
//	mac       base64url without padding of HMAC-SHA256 over the token up to, not with, its second dot
//
// No part can have a line feed in it: [Ring.Sign] refuses what is no id or label. Each token has one spelling only.
//
// The HMAC key is 32 random bytes that all replicas share: the record signing of the same bucket, {"v":1,"keys":
// [{"key":BASE64,"at":TIME}, …]}, the newest first, two at most. Whoever follows the bucket first makes it, by
// compare-and-set. The first one signs, both verify: after one [Rotate] tokens live on, after two all are worthless.
// Who may read the bucket can sign tokens, and read with them; he cannot come by a secret, and tokens submit nothing.
//
// # What holds, and the tests that pin it
//
//   - Neither a record nor a list nor a log has a secret in it: TestASecretIsKeptNowhere.
//   - A secret is compared in constant time with a hash, that of an unknown id with a hash of nothing; "revoked" is said to
//     the holder alone: TestOnlyTheWholeSecretOpens, FuzzCheck.
//   - A revoked key and its tokens are refused by all rings within moments of the revocation; one that was cut off goes by
//     what it knows, and asks when it is back: TestEveryRingRefusesARevokedKeyAndOneThatWasCutOffDoesOnceItIsBack,
//     TestARingHearsOfARevocationAfterTheServerWasRestarted.
//   - Replicas that start together share one signing key: TestReplicasThatStartTogetherSignWithOneKey.
//   - What is forged, cut or garbage is refused: TestATokenThatWasChangedIsForged, FuzzVerify. The format is as above:
//     TestATokenIsWhatTheFormatSays.
//   - Clocks of replicas may differ by [Skew]: TestATokenEndsAtItsTimeGiveOrTakeTheClocks.
package apikey
