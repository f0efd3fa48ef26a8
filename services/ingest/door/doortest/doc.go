// Package doortest holds what a door answers against the documents that it serves: each response, and each request that
// was taken, against the OpenAPI document; each event of a stream and each message of a WebSocket against the AsyncAPI
// one. In tests the documents are taken to be complete: a field, a header or a status that they do not describe is a
// fault, though clients are told to expect others in later versions.
package doortest
