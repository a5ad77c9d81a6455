package upstream

import (
	"errors"
	"io"
	"sync/atomic"
)

// upload is a request's body. While it waits for the client the origin's clock
// stands still.
type upload struct {
	io.ReadCloser
	a *attempt
}

// clientError is an error of the client's body, in a type of its own as
// [atomic.Value] keeps but one.
type clientError struct{ error }

func (u *upload) Read(b []byte) (int, error) {
	u.a.clock.pause(sent)
	n, err := u.ReadCloser.Read(b)
	u.a.clock.run(sent)
	if err != nil && !errors.Is(err, io.EOF) {
		u.a.upload.CompareAndSwap(nil, clientError{err})
	}
	return n, err
}

// download is a response's body.
type download struct {
	from  io.ReadCloser
	a     *attempt
	ended atomic.Pointer[error] // what Read gives from then on
}

func (d *download) Read(b []byte) (int, error) {
	if ended := d.ended.Load(); ended != nil {
		return 0, *ended
	}
	d.a.clock.run(answered)
	n, err := d.from.Read(b)
	d.a.clock.pause(answered)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		d.a.finish(good, "")
	default:
		err = d.a.fail(err)
	}
	d.ended.Store(&err)
	return n, err
}

// Close before the end is the client's choice, and says nothing of the origin.
func (d *download) Close() error {
	err := d.from.Close()
	d.a.finish(neither, "")
	return err
}

// upgraded is a connection that was handed over (101). No deadline is kept: what
// is spoken on it is not ours.
type upgraded struct {
	io.ReadWriteCloser
	a *attempt
}

func (u *upgraded) Close() error {
	err := u.ReadWriteCloser.Close()
	u.a.finish(neither, "")
	return err
}
