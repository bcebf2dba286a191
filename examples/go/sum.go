// Every process adds to shared variables, by plain stores and by atomic operations, and the first says what they are.
//
//	go build sum.go && dsm run -n 4 -- ./sum [ROUNDS]
package main

// #cgo LDFLAGS: -ldsm
// #include <stdlib.h>
// #include <dsm/dsm.h>
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"
)

// session is a process's place in a session. Every method may be called by any goroutine.
type session struct{ pointer *C.dsm_session }

// call makes a call of libdsm; why it failed is kept per thread, so it is asked on the thread of the call.
func call(what func() C.int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if what() != C.DSM_OK {
		return errors.New(C.GoString(C.dsm_last_error()))
	}
	return nil
}

// open joins the session that the environment names, which `dsm run` sets.
func open() (session, error) {
	var s session
	err := call(func() C.int { return C.dsm_open(nil, &s.pointer) })
	return s, err
}

func (s session) close() error   { return call(func() C.int { return C.dsm_close(s.pointer) }) }
func (s session) barrier() error { return call(func() C.int { return C.dsm_barrier_wait(s.pointer) }) }
func (s session) rank() int      { return int(C.dsm_rank(s.pointer)) }
func (s session) processes() int { return int(C.dsm_processes(s.pointer)) }

// locked runs scope while this process has the lock. (It is the process that has it, not the goroutine: those of one
// process want a sync.Mutex besides.) If the last owner died while it had the lock, what it guards may be half done: that is
// an error here, and the next owner is told, too. A program that can put things in order does so instead, and unlocks by
// dsm_unlock.
func (s session) locked(name string, scope func()) error {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	var status C.int
	err := call(func() C.int { status = C.dsm_lock(s.pointer, text); return status })
	if status == C.DSM_OWNER_DIED {
		if failed := call(func() C.int { return C.dsm_unlock_unmended(s.pointer, text) }); failed != nil {
			return failed
		}
	}
	if err != nil {
		return err
	}
	scope()
	return call(func() C.int { return C.dsm_unlock(s.pointer, text) })
}

// named is the block of that name as a T, zeroed when it is made: the same in every process. T must have no pointers in
// it, nor strings, slices, maps or interfaces: they would mean nothing to others, and the garbage collector does not look
// there. The memory is C's: it is neither moved nor freed.
func named[T any](s session, name string) (*T, error) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	var block unsafe.Pointer
	var size T
	err := call(func() C.int { return C.dsm_named(s.pointer, text, C.size_t(unsafe.Sizeof(size)), &block) })
	return (*T)(block), err
}

// whole is all of the map. A slice over a part of it is unsafe.Slice((*float64)(address), length).
func (s session) whole() []byte {
	return unsafe.Slice((*byte)(C.dsm_address(s.pointer)), int(C.dsm_size(s.pointer)))
}

const (
	processesMax = 64
	goroutines   = 4
)

// shared is what the processes share.
type shared struct {
	total int64                              // changed by all at any time
	sum   float64                            // changed by whoever has the lock
	slots [processesMax * goroutines]float64 // each goroutine has its own
}

func run(rounds int) error {
	s, err := open()
	if err != nil {
		return err
	}
	rank, processes := s.rank(), s.processes()
	if processes > processesMax {
		return fmt.Errorf("%d processes; there is room for %d", processes, processesMax)
	}
	all, err := named[shared](s, "sum")
	if err != nil {
		return err
	}

	var group sync.WaitGroup
	for g := 0; g < goroutines; g++ {
		slot := &all.slots[rank*goroutines+g]
		group.Add(1)
		go func() {
			defer group.Done()
			for i := 0; i < rounds; i++ {
				atomic.AddInt64(&all.total, 1)
				*slot++ // a plain store, shared by all
			}
		}()
	}
	group.Wait()
	if err := s.locked("sum.lock", func() { all.sum += float64(rounds) }); err != nil {
		return err
	}
	if err := s.barrier(); err != nil {
		return err
	}
	if rank == 0 {
		slots := 0.0
		for _, one := range all.slots {
			slots += one
		}
		fmt.Printf("%d processes of %d goroutines: total %d, sum %g, slots %g, in a map of %d bytes\n",
			processes, goroutines, atomic.LoadInt64(&all.total), all.sum, slots, len(s.whole()))
	}
	if err := s.barrier(); err != nil {
		return err
	}
	return s.close()
}

func main() {
	rounds := 1000
	if len(os.Args) > 1 {
		number, err := strconv.Atoi(os.Args[1])
		if err != nil || number < 1 || number > 1e9 || len(os.Args) > 2 {
			fmt.Fprintln(os.Stderr, "sum: one argument, the number of rounds from 1 to 1000000000")
			os.Exit(2)
		}
		rounds = number
	}
	if err := run(rounds); err != nil {
		fmt.Fprintln(os.Stderr, "sum:", err)
		os.Exit(1)
	}
}
