package ipc_test

import tests "github.com/ipcgen/ipcgen/internal/echo"

// The tests' own protocol, under the names by which this package's tests know it.

type blob = tests.Blob

var (
	echoProtocol = tests.Protocol

	methodEcho   = tests.Echo
	methodBlock  = tests.Block
	methodFail   = tests.Fail
	methodPanic  = tests.Panic
	methodCrash  = tests.Crash
	methodNews   = tests.News
	methodPause  = tests.Pause
	methodAside  = tests.Aside
	methodLong   = tests.Long
	methodRefuse = tests.Refuse
	methodLinger = tests.Linger
	messageNote  = tests.Note

	methodCount  = tests.Count
	methodUpload = tests.Upload
	methodJam    = tests.Jam

	encodeBlob, decodeBlob = tests.Encode, tests.Decode
	errMalformed           = tests.ErrMalformed

	idOf             = tests.ID
	echoMethod       = tests.Method
	idempotentMethod = tests.Idempotent
	streamingMethod  = tests.Streaming
	echoSpec         = tests.Spec
	echoService      = tests.Service
	echoes           = tests.Of
	streamingService = tests.StreamingService
	blocking         = tests.Blocking
	newEndless       = tests.NewEndless
	newReign         = tests.NewReign
	items            = tests.Items
	counted          = tests.Counted

	echo          = tests.Call
	count         = tests.CountTo
	pause         = tests.Wait
	invoke        = tests.Invoke
	notes         = tests.Notes
	note          = tests.SendNote
	number        = tests.Number
	expectNumbers = tests.ExpectNumbers
	textOf        = tests.TextOf
	mirrors       = tests.Mirrors
	badMetadata   = tests.BadMetadata
	want          = tests.Want
	still         = tests.Still
	expectCounted = tests.ExpectCounted

	expectNothingLeft = tests.ExpectNothingLeft
)
